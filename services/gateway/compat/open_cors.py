"""CORS of replaced systems whose pages are served elsewhere: every page that the host guard lets through may read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Pages send no credential that a browser adds by itself, so every origin may read the answers.
_CORS: Final = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
]


class OpenCors:
    """Pure ASGI middleware: lets pages of other origins read every answer, and answers their preflight requests."""

    def __init__(self, app: ASGIApp, allowed_headers: str = "Content-Type") -> None:
        """Allow pages to send ``allowed_headers``."""
        self._app = app
        self._cors = [*_CORS, (b"access-control-allow-headers", allowed_headers.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await send({"type": "http.response.start", "status": 204, "headers": self._cors})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *self._cors]}
            await send(message)

        await self._app(scope, receive, send_with_cors)
