"""A site of the replaced badminton system over a real socket: its routes, and its validators, which are strict.

Written from coenhallie/badminton-tracker 64bfc14 (convex/http.ts, videos.ts, schema.ts; its plan of the integration):
an unknown key, a wrong type, an unknown word and a null that http.ts does not filter are refused with 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from tests.harness.servers.embedded import HOST, free_port

NUMBER, TEXT, FLAG = (int, float), (str,), (bool,)
STATUSES = {"uploaded", "processing", "completed", "failed"}
LEVELS = {"info", "success", "warning", "error", "debug"}
CATEGORIES = {"processing", "detection", "model", "court", "modal"}
META = {"duration": NUMBER, "fps": NUMBER, "total_frames": NUMBER, "processed_frames": NUMBER}
META_OPTIONAL = {
    "player_count": NUMBER,
    "has_court_detection": FLAG,
    "has_shuttle_analytics": FLAG,
    "has_rally_detection": FLAG,
    "rally_count": NUMBER,
    "tracknet_used": FLAG,
}
PLAN = dict.fromkeys(("duration", "fps", "totalFrames", "processedFrames", "videoWidth", "videoHeight"), NUMBER)

#: What a site does with the next request to a route instead of answering it.
Fault = Literal["500", "503", "html", "no_success", "stall", "slow", "lost", "cut", "bare_url"]


class RefusedError(Exception):
    """A validator refuses a request."""


def check(value: Any, required: dict[str, tuple[type, ...]], optional: dict[str, tuple[type, ...]]) -> None:
    """Check an object as v.object does."""
    if not isinstance(value, dict):
        raise RefusedError(f"{value!r} is no object")
    for name, kinds in (required | optional).items():
        if name not in value:
            if name in required:
                raise RefusedError(f"{name} is missing")
        elif not isinstance(value[name], kinds) or (bool not in kinds and isinstance(value[name], bool)):
            raise RefusedError(f"{name} is {value[name]!r}")
    if unknown := value.keys() - required.keys() - optional.keys():
        raise RefusedError(f"extra fields {sorted(unknown)}")


@dataclass
class ConvexSite:
    """The site: its documents, its storage, and how it misbehaves."""

    port: int
    dialect: Literal["site", "plan"] = "site"
    #: Where the plan's status and upload routes are: below /updateResults as it writes, or at the root.
    plan_prefix: str = "/updateResults"
    videos: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    storage: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    #: Each request as it came: path and body.
    got: list[tuple[str, Any]] = field(default_factory=list)
    times: list[tuple[str, float]] = field(default_factory=list)
    faults: dict[str, deque[Fault]] = field(default_factory=dict)
    #: Number of times that a video was set to completed.
    completed: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Called with the path of each request, before it is answered.
    on_request: Callable[[str], None] | None = None

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def callback_url(self) -> str:
        return self.url if self.dialect == "site" else f"{self.url}/updateResults"

    def fail(self, path: str, *faults: Fault) -> None:
        """Answer the next requests to a route with faults."""
        self.faults.setdefault(path, deque()).extend(faults)

    def paths(self) -> list[str]:
        return [path for path, _ in self.got]

    def statuses(self) -> list[dict[str, Any]]:
        return [body for path, body in self.got if path.endswith("/updateStatus")]

    async def until(self, condition: Any, timeout_s: float = 20.0) -> None:
        """Wait until something holds."""
        async with asyncio.timeout(timeout_s):
            while not condition():
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await self.changed.wait()

    def status(self, video_id: str) -> str | None:
        found = self.videos.get(video_id, {}).get("status")
        return None if found is None else str(found)

    # -- routes

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        fault = self.faults[path].popleft() if self.faults.get(path) else None
        if fault == "cut":
            await request.content.readany()
            assert request.transport
            request.transport.abort()
            return web.Response()
        raw = await request.read()
        self.times.append((path, asyncio.get_running_loop().time()))
        try:
            body = json.loads(raw) if raw and not path.startswith("/storage/") else None
        except ValueError:
            return web.json_response({"error": "not JSON"}, status=500)
        self.got.append((path, body))
        self.changed.set()
        if self.on_request is not None:
            self.on_request(path)
        if fault in ("500", "503"):
            return web.json_response({"error": "asked for"}, status=int(fault))
        if fault == "html":
            return web.Response(text="<html>Log in</html>", content_type="text/html")
        if fault == "no_success":
            return web.json_response({"ok": 1})
        if fault == "bare_url":  # a text, as no dialect has it
            return web.Response(text=f"{self.url}/storage/upload?token=secret")
        if fault == "stall":
            await asyncio.sleep(3600)
        if fault == "slow":
            await asyncio.sleep(0.3)
        try:
            answer = self._answer(path, request, body, raw)
        except RefusedError as error:
            return web.json_response({"error": f"ArgumentValidationError: {error}"}, status=500)
        self.changed.set()
        if fault == "lost":  # done, but nobody hears of it
            assert request.transport
            request.transport.abort()
            return web.Response()
        return answer

    def _answer(self, path: str, request: web.Request, body: Any, raw: bytes) -> web.Response:
        if path.startswith("/storage/"):
            storage_id = f"kg{len(self.storage):030d}"
            self.storage[storage_id] = request.content_type, raw
            return web.json_response({"storageId": storage_id})
        if self.dialect == "plan":
            return self._answer_plan(path, body)
        match path:
            case "/generateUploadUrl":
                if body != {}:
                    raise RefusedError("the body is not {}")
                return web.json_response({"uploadUrl": f"{self.url}/storage/upload?token={'t' * 400}"})
            case "/updateStatus":
                return self._update_status(body, {"currentFrame": NUMBER, "totalFrames": NUMBER})
            case "/addLog":
                given = {name: value for name, value in body.items() if value is not None}
                check(given, dict.fromkeys(("videoId", "message", "level", "category"), TEXT), {})
                if given["level"] not in LEVELS or given["category"] not in CATEGORIES:
                    raise RefusedError("level or category")
                self.logs.append(given)
                return web.json_response({"success": True})
            case "/updateResults":
                return self._update_results(body)
        return web.Response(status=404, text="No matching routes found")

    def _answer_plan(self, path: str, body: Any) -> web.Response:
        if path == "/updateResults":
            check(body, {"videoId": TEXT, "results": (dict,)}, {"processedVideoStorageId": TEXT})
            check(body["results"], PLAN | {"players": (list,)}, {"shuttle": (object,), "courtDetection": (object,)})
            return self._complete(body, body["results"])
        match path.removeprefix(self.plan_prefix) if path.startswith(self.plan_prefix) else "":
            case "/generateUploadUrl":
                if body is not None:
                    raise RefusedError("there is a body")
                return web.json_response(f"{self.url}/storage/upload")
            case "/updateStatus":
                return self._update_status(body, {})
        return web.Response(status=404, text="No matching routes found")

    def _update_status(self, body: Any, more: dict[str, tuple[type, ...]]) -> web.Response:
        given = {name: value for name, value in body.items() if value is not None}
        if "videoId" not in given:
            return web.json_response({"error": "Missing videoId"}, status=400)
        check(given, {"videoId": TEXT, "status": TEXT}, {"progress": NUMBER, "error": TEXT} | more)
        if given["status"] not in STATUSES or not 0 <= given.get("progress", 0) <= 100:
            raise RefusedError("status or progress")
        self.videos.setdefault(given.pop("videoId"), {}).update(given)
        return web.json_response({"success": True})

    def _update_results(self, body: Any) -> web.Response:
        optional = dict.fromkeys(("resultsStorageId", "processedVideoStorageId", "skeletonDataStorageId"), TEXT)
        check(body, {"videoId": TEXT, "resultsMeta": (dict,)}, optional)
        check(body["resultsMeta"], META, META_OPTIONAL)
        for name in optional.keys() & body.keys():
            if body[name] not in self.storage:
                raise RefusedError(f"{name} is no id of the storage")
        return self._complete(body, body["resultsMeta"])

    def _complete(self, body: dict[str, Any], figures: dict[str, Any]) -> web.Response:
        self.completed += 1
        changes = {name: value for name, value in body.items() if name.endswith("StorageId")}
        video = self.videos.setdefault(body["videoId"], {})
        video.update({"status": "completed", "progress": 100, "figures": figures, **changes})
        return web.json_response({"success": True})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve until the end of the context; what was stored stays, as after a kill and a start."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, HOST, self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def convex_site(**options: Any) -> AsyncIterator[ConvexSite]:
    """Run a site in this event loop."""
    site = ConvexSite(free_port(), **options)
    async with site.serving():
        yield site
