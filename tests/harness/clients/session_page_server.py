"""Server with the real session page and a scripted session behind its API."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import struct
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from aiohttp import WSCloseCode, WSMsgType, web
from fastapi import FastAPI

from contracts.events import EventData, encode
from contracts.events.session import FrameTotals, SessionProgressed, SessionResetRequested, SessionStopRequested
from contracts.ids import new_id
from contracts.session import job_id_of_session
from kit.auth.api_keys import AuthSettings
from kit.auth.host_guard import HostGuard
from kit.http.problems import install_problems
from services.gateway.aggregates.view import GatewayView
from services.gateway.sessions.page.routes import router
from services.gateway.settings import ConsoleSettings
from tests.harness.servers.embedded import HOST, free_port

KEY = "reader.long-secret"
CLOCK_AHEAD_S = 7.5


class ScriptedSession:
    """A scripted session; the page's requests and messages are recorded."""

    def __init__(self, key: str | None = None) -> None:
        self.id = new_id("ses")
        self.key = key
        self.state, self.error = "running", None
        self.totals = FrameTotals()
        self.figures: dict[str, Any] = {}
        self.ply = b""
        self.params: dict[str, Any] = {}
        self.sequence = 1
        #: Durable events, and the newest advisory ones.
        self.history: list[tuple[int, str]] = []
        self.newest: dict[str, str] = {}
        self.sockets: set[web.WebSocketResponse] = set()
        #: Queries of the streams that were opened, messages and pictures that came, and paths of POSTs.
        self.opened: list[dict[str, str]] = []
        self.messages: list[dict[str, Any]] = []
        self.pictures: list[tuple[dict[str, Any], bytes]] = []
        self.posts: list[str] = []
        #: Status and query of each answer to the page's asking for the model.
        self.plies: list[tuple[int, dict[str, str]]] = []
        self.problems: list[dict[str, Any]] = []

    @property
    def path(self) -> str:
        return f"/v1/sessions/{self.id}"

    def shown(self) -> dict[str, Any]:
        job = f"/v1/jobs/{job_id_of_session(self.id)}"
        links = {
            "self": self.path, "events": f"{self.path}/events", "stream": f"{self.path}/stream",
            "page": f"/sessions/{self.id}", "job": job, "artifacts": f"{job}/artifacts", "ply": f"{self.path}/ply",
        }  # fmt: skip
        return {
            "id": self.id, "workload": "live_splat", "state": self.state, "params": self.params, "reason": None,
            "created_at": "2026-01-01T00:00:00Z", "frames": self.totals.model_dump(), "figures": self.figures,
            "frame_age_s": None, "finished_at": None,
            "job": {"id": job_id_of_session(self.id), "state": "running", "attempt": 1},
            "cost": {"actual_usd": 0.0012, "max_usd": 0.5}, "error": self.error, "links": links,
            "cursor": f"e.{self.sequence}",
        }  # fmt: skip

    async def say(self, data: EventData) -> None:
        """Send an event to every page."""
        text = encode(data, tenant="local", subject_id=self.id, source="/worker/run_1").body.decode()
        if data.kind == "evt":
            self.sequence += 1
            self.history.append((self.sequence, text))
            await self.tell(text)
            await self.tell(self._cursor())
        else:
            self.newest[data.type] = text
            await self.tell(text)

    def _cursor(self) -> dict[str, str]:
        return {"type": "cursor", "cursor": f"e.{self.sequence}"}

    async def tell(self, message: str | dict[str, Any]) -> None:
        """Send a message to every page."""
        text = message if isinstance(message, str) else json.dumps(message)
        for socket in list(self.sockets):
            with contextlib.suppress(ConnectionError):
                await socket.send_str(text)

    async def progress(self, frame_age_s: float = 0.4, **figures: Any) -> None:
        """Send the worker's progress; fields are kept for pages that connect later."""
        self.figures = {**self.figures, **figures}
        await self.say(
            SessionProgressed(
                run_id="run_1", totals=self.totals, figures=self.figures, frame_age_s=frame_age_s, cost_usd=0.0034
            )
        )

    async def joints(self, names: list[str], positions: list[float]) -> None:
        """Send the arm's position."""
        now = time.time()
        samples = [[seq, now + seq / 50, positions] for seq in range(5)]
        await self.tell({"type": "joints", "source": "arm", "names": names, "unit": "rad", "samples": samples})

    async def cut(self) -> None:
        """Abort every stream."""
        for socket in list(self.sockets):
            transport = socket._req.transport if socket._req else None
            if transport:
                transport.abort()

    # -- routes

    def _refused(self, request: web.Request) -> web.Response | None:
        if self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        return _problem(401, "unauthenticated", "The request has no API key.", "Send Authorization: Bearer <key>.")

    async def read(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        if self.problems:
            problem = self.problems.pop(0)
            return _problem(problem["status"], problem["code"], problem["detail"], problem["hint"])
        if request.match_info["id"] != self.id:
            return _problem(404, "session_not_found", "There is no such session.", "Look at GET /v1/sessions.")
        return web.json_response(self.shown())

    async def post(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        deed = request.match_info["deed"]
        self.posts.append(deed)
        if deed == "stop":
            self.state = "stopping"
            await self.say(SessionStopRequested(by="tenant:local"))
        else:
            self.figures, self.ply = {}, b""
            await self.say(SessionResetRequested(by="tenant:local"))
        return web.json_response(self.shown())

    async def model(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        mark = f'"{hashlib.sha256(self.ply).hexdigest()[:16]}"'
        query = dict(request.query)
        if not self.ply:
            self.plies.append((404, query))
            return _problem(404, "artifact_not_found", "There is no model yet.", "Send frames.")
        if request.headers.get("If-None-Match") == mark:
            self.plies.append((304, query))
            return web.Response(status=304, headers={"ETag": mark})
        self.plies.append((200, query))
        return web.Response(body=self.ply, content_type="application/octet-stream", headers={"ETag": mark})

    async def ticket(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        resource = (await request.json())["resource"]
        return web.json_response({"ticket": f"for {resource}", "resource": resource}, status=201)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if self.key and request.query.get("ticket") != f"for {self.path}/stream":
            return _problem(401, "unauthenticated", "The ticket is not valid here.", "Get a new one.")
        self.opened.append(dict(request.query))
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        after = int(request.query.get("after", "e.0").removeprefix("e."))
        for text in [text for sequence, text in self.history if sequence > after]:
            await socket.send_str(text)
        await socket.send_json(self._cursor())
        for text in self.newest.values():
            await socket.send_str(text)
        self.sockets.add(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    (length,) = struct.unpack(">I", message.data[:4])
                    self.pictures.append((json.loads(message.data[4 : 4 + length]), message.data[4 + length :]))
                elif message.type is WSMsgType.TEXT:
                    await self._answer(socket, json.loads(message.data))
        finally:
            self.sockets.discard(socket)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, said: dict[str, Any]) -> None:
        self.messages.append(said)
        if said["type"] == "clock_ping":
            time_s = time.time() + CLOCK_AHEAD_S
            await socket.send_json({"type": "clock_pong", "sent_at_s": said["sent_at_s"], "time_s": time_s})


def _problem(status: int, code: str, detail: str, hint: str) -> web.Response:
    body = {
        "type": f"urn:saccade:error:{code}",
        "title": code,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
    }
    return web.json_response(body, status=status, content_type="application/problem+json")


def page_app() -> FastAPI:
    """Return an application with the page's real routes and the gateway's middleware."""
    app = FastAPI()
    app.state.view, app.state.console_settings = GatewayView(None), ConsoleSettings()
    app.include_router(router)
    install_problems(app)
    app.add_middleware(HostGuard, settings=AuthSettings())
    return app


@contextlib.asynccontextmanager
async def serving(session: ScriptedSession) -> AsyncIterator[str]:
    """Serve the page and a session; yield the origin."""
    transport = httpx.ASGITransport(app=page_app())
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as pages:

        async def page(request: web.Request) -> web.Response:
            kept = {name: value for name, value in request.headers.items() if name.lower() != "connection"}
            answer = await pages.request(request.method, request.path_qs, headers=kept)
            headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
            raw = b"".join([part async for part in answer.aiter_bytes()])
            headers.pop("content-encoding", None)
            return web.Response(status=answer.status_code, body=raw, headers=headers)

        app = web.Application()
        app.router.add_get("/v1/sessions/{id}", session.read)
        app.router.add_post("/v1/sessions/{id}/{deed:stop|reset}", session.post)
        app.router.add_get(f"{session.path}/ply", session.model)
        app.router.add_get(f"{session.path}/stream", session.stream)
        app.router.add_post("/v1/tickets", session.ticket)
        app.router.add_get("/{path:.*}", page)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, HOST, port).start()
        try:
            yield f"http://{HOST}:{port}"
        finally:
            for socket in list(session.sockets):
                await socket.close(code=WSCloseCode.GOING_AWAY)
            await asyncio.sleep(0)
            await runner.cleanup()
