"""Middleware that answers HEAD on every route that has GET, with the same head (RFC 9110, section 9.3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Key in the scope of a request that was HEAD: an endless answer ends after its head.
IS_HEAD: Final = "saccade.head"


class HeadRequests:
    """Pure ASGI middleware: passes HEAD on as GET. The server sends no body, because its own scope says HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", IS_HEAD: True}
        await self._app(scope, receive, send)
