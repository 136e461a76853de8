"""Application below ``/badminton``: the sync WebSocket, the upload and the HTTP routes of the replaced Convex backend.

Its errors are ``{"error": text}``, and pages of every origin that the host guard lets through may read its answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB, MIB, REQUEST_BODY_BYTES
from kit.auth.api_keys import Authenticator, Principal, ScopeName
from kit.auth.mapped_credential import caller_of
from kit.auth.revocation import serve_until_revoked
from kit.http.body_limit import DRAINED_BYTES
from kit.http.problems import problem_headers
from services.gateway.compat.badminton.addresses import base_url
from services.gateway.compat.badminton.badminton_health import BadmintonHealth
from services.gateway.compat.badminton.heat_map import HEIGHT, WIDTH
from services.gateway.compat.badminton.older_page import OlderPage
from services.gateway.compat.badminton.results import HEAT_MAP, SPEED, ZONES, Results
from services.gateway.compat.badminton.sync.functions import TOO_LATE, Caller, Functions
from services.gateway.compat.badminton.sync.remembered_requests import RememberedRequests
from services.gateway.compat.badminton.sync.sync_socket import SyncSocket
from services.gateway.compat.badminton.uploads.upload_body import UploadBodies
from services.gateway.compat.badminton.videos.file_urls import FileUrls
from services.gateway.compat.badminton.videos.keypoints import checked_keypoints
from services.gateway.compat.badminton.videos.video_changes import VideoChanges
from services.gateway.compat.badminton.videos.video_rows import Video
from services.gateway.compat.badminton.videos.video_service import Videos
from services.gateway.compat.open_cors import OpenCors
from services.gateway.compat.replaced_application import (
    CallerHandler,
    counted_route,
    for_caller,
    replaced_application,
)
from services.gateway.fair_slots import FairSlots
from services.gateway.object_body import ObjectResponse
from services.gateway.socket_places import SocketPlaces

if TYPE_CHECKING:
    from starlette.types import ASGIApp


_PDF_REQUEST_BYTES: Final = 32 * MIB
#: Requests for a report that are read at once: their bodies hold every position of the players. One is left to others.
_PDF_REQUESTS: Final = 3
#: Longest time for which one of them is received: others wait for it.
_PDF_REQUEST_S: Final = 30.0
#: Queries that are evaluated at once, of all sockets: the event loop does nothing else meanwhile.
_QUERIES: Final = 4
_MAX_HEAT_MAP_SIDE: Final = 512
#: What the replaced backend answered where this system is more exact: invalid values, results that are not ready.
_STATUS: Final = {422: 400, 409: 404}


class BadmintonRoutes:
    """Handlers of the routes."""

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        videos: Videos,
        functions: Functions,
        changes: VideoChanges,
        uploads: UploadBodies,
        results: Results,
        urls: FileUrls,
        health: BadmintonHealth,
        places: SocketPlaces,
        cause_of: Callable[[SaccadeError], SaccadeError],
    ) -> None:
        """``places`` limits open sockets.

        ``cause_of`` returns the error to answer with, for one whose cause is known better by the caller.
        """
        self._authenticator, self._cause_of, self._places = authenticator, cause_of, places
        self._videos, self._functions, self._changes = videos, functions, changes
        self._uploads, self._results, self._urls, self._health = uploads, results, urls, health
        self._remembered = RememberedRequests()
        self._pdf_slots = FairSlots(_PDF_REQUESTS, most_of_one=_PDF_REQUESTS - 1)
        self._query_slots = FairSlots(_QUERIES, most_of_one=_QUERIES - 1)

    def application(self, prefix: str) -> ASGIApp:
        """Return the application to mount at a path prefix."""
        older = OlderPage(
            self._videos, self._uploads, self._results, self._urls, self._changes, quotas=self._authenticator.quotas
        )
        routes: list[tuple[str, str, ScopeName, CallerHandler]] = [
            ("GET", "/health", "read", self._get_health),
            ("POST", "/api/storage/upload", "write", self._upload),
            ("GET", "/api/video-url", "read", self._video_url),
            ("GET", "/video", "read", self._video),
            ("POST", "/api/court-keypoints/manual/set", "write", self._set_keypoints),
            ("GET", "/api/court-keypoints/manual/status", "read", self._keypoints_status),
            ("GET", "/api/zone-analytics", "read", self._zones),
            ("GET", "/api/speed", "read", self._speed),
            ("GET", "/api/heatmap", "read", self._heat_map),
            ("POST", "/api/export/pdf", "read", self._pdf),
            ("POST", "/api/upload", "write", older.upload),
            ("POST", "/api/analyze/{video_id}", "write", older.analyze),
            ("GET", "/api/results/{video_id}", "read", older.results),
            ("GET", "/api/skeleton/{video_id}", "read", older.results),
            ("GET", "/api/original/{video_id}", "read", older.original),
            ("GET", "/api/video/{video_id}", "read", older.processed),
        ]
        app = replaced_application(
            [
                WebSocketRoute("/api/{client_version}/sync", self._socket(self._sync)),
                WebSocketRoute("/ws/{video_id}", self._socket(older.follow)),
                *(
                    counted_route(prefix, path, method, for_caller(self._authenticator, scope, handler), self._on_error)
                    for method, path, scope, handler in routes
                ),
            ],
            error_field="error",
        )
        return OpenCors(app)

    def _on_error(self, error: SaccadeError) -> Response:
        return _error(self._cause_of(error))

    # -- the sync protocol

    def _socket(
        self, serve: Callable[[WebSocket, Principal], Coroutine[Any, Any, None]]
    ) -> Callable[[WebSocket], Awaitable[None]]:
        """Return the handler of a WebSocket, which ``serve`` serves for as long as its client's key is valid."""

        async def accept(socket: WebSocket) -> None:
            with ExitStack() as places:
                try:
                    principal = caller_of(self._authenticator, socket, "read")
                    places.enter_context(self._places.place(principal.tenant))
                except SaccadeError as error:
                    await socket.send_denial_response(_error(error))
                    return
                await socket.accept()
                await serve_until_revoked(self._authenticator, principal, socket, serve(socket, principal))

        return accept

    async def _sync(self, socket: WebSocket, principal: Principal) -> None:
        caller = Caller(principal, base_url(socket.scope))
        sync_socket = SyncSocket(
            socket,
            caller,
            functions=self._functions,
            changes=self._changes,
            remembered=self._remembered,
            slots=self._query_slots,
            quotas=self._authenticator.quotas,
        )
        await sync_socket.run()

    # -- routes

    async def _get_health(self, request: Request, caller: Principal) -> Response:  # noqa: ARG002
        healthy, report = await self._health.report(caller.tenant)
        return JSONResponse(report, 200 if healthy else 503)

    async def _upload(self, request: Request, caller: Principal) -> Response:
        token = request.query_params.get("token", "")
        return JSONResponse({"storageId": (await self._uploads.receive(request, caller, token)).id})

    async def _video_url(self, request: Request, caller: Principal) -> Response:
        return JSONResponse({"url": await self._urls.original(await self._asked_video(request, caller))})

    async def _video(self, request: Request, caller: Principal) -> Response:
        video = await self._videos.get(caller.tenant, _query(request, "storageId"))
        return RedirectResponse(await self._urls.original(video), 307, {"Cache-Control": "no-store"})

    async def _set_keypoints(self, request: Request, caller: Principal) -> Response:
        body = await _json_body(request)
        keypoints = checked_keypoints(body.get("keypoints"))
        in_time = await self._videos.set_keypoints(caller.tenant, _video_id(body), keypoints)
        message = "Manual court keypoints saved" if in_time else TOO_LATE
        return JSONResponse({"status": "success", "message": message, "keypoints": keypoints})

    async def _keypoints_status(self, request: Request, caller: Principal) -> Response:
        saved = (await self._asked_video(request, caller)).keypoints
        return JSONResponse(
            {"has_manual_keypoints": saved is not None, "keypoints": saved.keypoints if saved else None}
        )

    async def _zones(self, request: Request, caller: Principal) -> Response:
        return await self._file(request, caller, ZONES)

    async def _speed(self, request: Request, caller: Principal) -> Response:
        return await self._file(request, caller, SPEED)

    async def _heat_map(self, request: Request, caller: Principal) -> Response:
        width, height = _side(request, "width", WIDTH), _side(request, "height", HEIGHT)
        player = request.query_params.get("player_id") or None
        if (width, height, player) == (WIDTH, HEIGHT, None):
            return await self._file(request, caller, HEAT_MAP)
        video = await self._asked_video(request, caller)
        return JSONResponse(await self._results.heat_map(video, width, height, player))

    async def _pdf(self, request: Request, caller: Principal) -> Response:
        async with self._pdf_slots.slot(caller.tenant):
            try:
                async with asyncio.timeout(_PDF_REQUEST_S):
                    video_id = await _video_of_report(request)
            except TimeoutError:
                message = f"The body was not complete after {_PDF_REQUEST_S:g} s."
                raise SaccadeError(ErrorCode.REQUEST_TIMEOUT, message) from None
        video = await self._videos.get(caller.tenant, video_id)
        return await self._results.pdf_answer(video)

    async def _asked_video(self, request: Request, caller: Principal) -> Video:
        return await self._videos.get(caller.tenant, _query(request, "videoId"))

    async def _file(self, request: Request, caller: Principal, name: str) -> Response:
        """Pass a file of the video's job on, in pieces."""
        opened, stack = await self._results.opened(await self._asked_video(request, caller), name)
        headers = {"Content-Length": str(opened.size_bytes)}
        return ObjectResponse(opened.chunks(), stack, headers=headers, media_type="application/json")


def _error(error: SaccadeError) -> JSONResponse:
    # The page before Convex reads ``detail``.
    content: dict[str, Any] = {
        "error": error.message, "detail": error.message, "code": error.code, "hint": error.hint,
    }  # fmt: skip
    status = _STATUS.get(error.kind.status, error.kind.status)
    return JSONResponse(content, status, problem_headers(error))


def _query(request: Request, name: str) -> str:
    value = request.query_params.get(name)
    if not value:
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, f"Missing {name}", hint=f"Send {name} in the query.")
    return value


def _side(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= _MAX_HEAT_MAP_SIDE):
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, f"{name} is not a number from 1 to {_MAX_HEAT_MAP_SIDE}.")
    return int(text)


def _video_id(body: Mapping[str, Any]) -> str:
    video_id = body.get("videoId")
    if not isinstance(video_id, str) or not video_id:
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "Missing videoId", hint="Send videoId in the body.")
    return video_id


async def _json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body.

    Raises:
        SaccadeError: BODY_TOO_LARGE, MALFORMED_REQUEST.
    """
    try:
        found = json.loads(await _limited_body(request, REQUEST_BODY_BYTES))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "The body is not a JSON object.")
    return found


class _ReportRequest(BaseModel):
    """Request for a report; the rest of it is what the page knows of the video, and ignored."""

    videoId: str = Field(min_length=1)  # noqa: N815 - the client's name


async def _video_of_report(request: Request) -> str:
    """Return the id of the video in a request for a report.

    Raises:
        SaccadeError: BODY_TOO_LARGE, MALFORMED_REQUEST.
    """
    body = await _limited_body(request, _PDF_REQUEST_BYTES)
    try:
        # By pydantic, which makes no Python objects of the rest: json.loads needs a second and 0.8 GB for 32 MiB of
        # small objects, and no other thread runs meanwhile.
        return (await asyncio.to_thread(_ReportRequest.model_validate_json, body)).videoId
    except ValidationError:
        message = "Missing videoId, or the body is not a JSON object."
        raise SaccadeError(ErrorCode.MALFORMED_REQUEST, message, hint="Send videoId in the body.") from None


async def _limited_body(request: Request, limit_bytes: int) -> bytes:
    """Return a request's body.

    Raises:
        SaccadeError: BODY_TOO_LARGE.
    """
    body, size_bytes = bytearray(), 0
    async for chunk in request.stream():
        size_bytes += len(chunk)
        if size_bytes <= limit_bytes:
            body += chunk
        elif size_bytes > limit_bytes + DRAINED_BYTES:
            break
    if size_bytes > limit_bytes:
        raise SaccadeError(
            ErrorCode.BODY_TOO_LARGE, f"The body is too large; at most {limit_bytes // KIB} KiB are accepted."
        )
    return bytes(body)
