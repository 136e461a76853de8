"""Routes of the tracker's page before it used Convex, which its README still describes: a form, one call, a socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB
from kit.auth.api_keys import Principal
from kit.auth.quotas import Quotas
from kit.bucket import OpenObject
from kit.tasks import end
from services.gateway.compat.badminton.results import Results
from services.gateway.compat.badminton.uploads.upload_body import UploadBodies
from services.gateway.compat.badminton.videos.file_urls import RESULTS, FileUrls
from services.gateway.compat.badminton.videos.video_changes import VideoChanges, of_video
from services.gateway.compat.badminton.videos.video_log import video_entries
from services.gateway.compat.badminton.videos.video_rows import Video, row
from services.gateway.compat.badminton.videos.video_service import Videos
from services.gateway.message_turns import MessageTurns
from services.gateway.object_body import ObjectResponse

log = logging.getLogger(__name__)

#: Time after which a call that waits looks whether its client is still there.
_LOOK_S: Final = 5.0
_PUSH_INTERVAL_S: Final = 0.2
_SEND_TIMEOUT_S: Final = 20.0
_MESSAGE_CHARS: Final = 4 * KIB


class OlderPage:
    """Handlers of the older routes."""

    def __init__(
        self,
        videos: Videos,
        uploads: UploadBodies,
        results: Results,
        urls: FileUrls,
        changes: VideoChanges,
        *,
        quotas: Quotas,
    ) -> None:
        """Serve the same videos as the newer routes; ``quotas`` limit the messages of their sockets."""
        self._quotas = quotas
        self._videos, self._uploads, self._results = videos, uploads, results
        self._urls, self._changes = urls, changes

    async def upload(self, request: Request, caller: Principal) -> Response:
        """Store the file of a form."""
        upload = await self._uploads.receive_form(request, caller)
        created = upload.created
        body = {"video_id": upload.id, "filename": created.filename, "size": created.size_bytes, "status": "uploaded"}
        return JSONResponse(body)

    async def analyze(self, request: Request, caller: Principal) -> Response:
        """Submit the video's job unless it has one, and answer with its results when it has ended."""
        video_id = _video_id(request)
        await self._videos.process(caller.tenant, video_id)
        changed = asyncio.Event()
        self._changes.watch([of_video(video_id)], changed)
        try:
            while (video := await self._videos.get(caller.tenant, video_id)).status == "processing":
                changed.clear()
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await changed.wait()
                        await asyncio.sleep(_PUSH_INTERVAL_S)
                except TimeoutError:
                    if await request.is_disconnected():
                        raise ClientDisconnect from None
        finally:
            self._changes.unwatch([of_video(video_id)], changed)
        if video.status != "completed":
            message = row(video).get("error", "The analysis failed.")
            return JSONResponse({"detail": message, "error": message}, 500)
        opened, stack = await self._results.opened(video, RESULTS)
        return ObjectResponse(_analysis(video, opened), stack, media_type="application/json")

    async def results(self, request: Request, caller: Principal) -> Response:
        """Return the results file, which contains the skeletons too."""
        opened, stack = await self._results.opened(await self._video(request, caller), RESULTS)
        return ObjectResponse(opened.chunks(), stack, media_type="application/json")

    async def original(self, request: Request, caller: Principal) -> Response:
        """Redirect to the uploaded file."""
        return _redirect(await self._urls.original(await self._video(request, caller)))

    async def processed(self, request: Request, caller: Principal) -> Response:
        """Redirect to the processed video."""
        url = await self._urls.processed(await self._video(request, caller))
        if url is None:
            raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, "There is no processed video yet.")
        return _redirect(url)

    async def follow(self, socket: WebSocket, caller: Principal) -> None:
        """Send progress and log of a video until the client disconnects."""
        video_id = str(socket.path_params["video_id"])
        changed = asyncio.Event()
        changed.set()
        self._changes.watch([of_video(video_id)], changed)
        sending = asyncio.ensure_future(self._send_changes(socket, caller, video_id, changed))
        turns = MessageTurns(self._quotas, caller.tenant, lambda reason: log.info("a page's socket waits: %s", reason))
        receiving = asyncio.ensure_future(_answer_pings(socket, turns))
        try:
            await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
            for task in (sending, receiving):
                if task.done():
                    task.result()
        except (WebSocketDisconnect, TimeoutError):
            return
        finally:
            self._changes.unwatch([of_video(video_id)], changed)
            await end(sending, receiving)

    async def _send_changes(self, socket: WebSocket, caller: Principal, video_id: str, changed: asyncio.Event) -> None:
        told: set[str] = set()
        progress: dict[str, Any] = {}
        while True:
            await changed.wait()
            changed.clear()
            video = await self._videos.find(caller.tenant, video_id)
            for message in [] if video is None else await self._messages(video, told):
                if message != progress:
                    await _send(socket, message)
                if message["type"] == "progress":
                    progress = message
            await asyncio.sleep(_PUSH_INTERVAL_S)

    async def _messages(self, video: Video, told: set[str]) -> list[dict[str, Any]]:
        """Return the entries that were not told yet, and the progress."""
        entries = [*video_entries(video), *await self._videos.log(video)]
        fresh = [entry for entry in entries if entry["_id"] not in told]
        told.update(entry["_id"] for entry in fresh)
        messages = [
            {
                "type": "log",
                "message": entry["message"],
                "level": entry["level"],
                "category": entry["category"],
                "timestamp": entry["timestamp"] / 1000,
            }
            for entry in fresh
        ]
        shown = row(video)
        if "progress" in shown:
            frames = {"frame": shown.get("currentFrame", 0), "total_frames": shown.get("totalFrames", 0)}
            messages.append({"type": "progress", "progress": shown["progress"], **frames})
        return messages

    async def _video(self, request: Request, caller: Principal) -> Video:
        return await self._videos.get(caller.tenant, _video_id(request))


def _video_id(request: Request) -> str:
    return str(request.path_params["video_id"])


def _redirect(url: str) -> Response:
    return RedirectResponse(url, 307, {"Cache-Control": "no-store"})


async def _analysis(video: Video, opened: OpenObject) -> AsyncIterator[bytes]:
    """Yield the answer to a call that has waited for the results."""
    head = {"video_id": video.upload.id, "status": "completed", "result": None}
    yield json.dumps(head).removesuffix("null}").encode()
    async for chunk in opened.chunks():
        yield chunk
    yield b"}"


async def _answer_pings(socket: WebSocket, turns: MessageTurns) -> None:
    while (message := await socket.receive())["type"] != "websocket.disconnect":
        await turns.next(message.get("bytes") or message.get("text") or "")
        text = message.get("text") or ""  # a binary message has none
        if len(text) <= _MESSAGE_CHARS and "ping" in text:
            await _send(socket, {"type": "pong"})


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    async with asyncio.timeout(_SEND_TIMEOUT_S):
        await socket.send_text(json.dumps(message))
