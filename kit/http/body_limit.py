"""Middleware that refuses request bodies that are too large, before they are parsed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB, MESSAGE_BYTES, MIB, REQUEST_BODY_BYTES
from kit.http.problems import send_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Workers send events to these routes, which may hold a job's whole result.
_EVENTS_PREFIX: Final = "/v1/runs/"
#: Frames of a live session must be counted even when refused: their routes limit what they read.
_FRAMES: Final = re.compile(r"/v1/sessions/[^/]+/frames|/upload-frame")
#: Routes of the replaced badminton tracker and photo service: they limit what they read.
_OWN_LIMIT: Final = re.compile(
    r"/badminton/api/(?:storage/upload|upload|export/pdf|court-keypoints/manual/set)|/api/upload/photos"
)
#: Joints of a live session are sent in batches.
_JOINTS: Final = re.compile(r"/v1/sessions/[^/]+/joints")
#: Read and ignored before the answer, so that the client gets it instead of a broken connection.
DRAINED_BYTES: Final = 8 * MIB


class BodyLimit:
    """Pure ASGI middleware: 413 by Content-Length, or as soon as a chunked body has grown too large."""

    def __init__(self, app: ASGIApp, limit_bytes: int = REQUEST_BODY_BYTES) -> None:
        """Limit an application's request bodies."""
        self._app = app
        self._limit = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or _FRAMES.fullmatch(scope["path"]) or _OWN_LIMIT.fullmatch(scope["path"]):
            await self._app(scope, receive, send)
            return
        large = scope["path"].startswith(_EVENTS_PREFIX) or _JOINTS.fullmatch(scope["path"])
        limit = max(self._limit, MESSAGE_BYTES) if large else self._limit
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared[:20]) > limit:
            await drain(receive)
            message = f"The body has {int(declared[:20])} bytes; at most {limit // KIB} KiB are allowed."
            await send_problem(scope, send, SaccadeError(ErrorCode.BODY_TOO_LARGE, message))
            return
        count = 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > limit:
                if message.get("more_body"):
                    await drain(receive)
                raise HTTPException(413)  # the one exception that FastAPI lets through from reading a body
            return message

        await self._app(scope, counted, send)


async def drain(receive: Receive) -> None:
    """Read and ignore the rest of a body, up to a limit."""
    count = 0
    while count <= DRAINED_BYTES:
        message = await receive()
        count += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body"):
            return
