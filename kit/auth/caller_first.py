"""Middleware that refuses a request without a valid credential before its body is read.

FastAPI reads the body before it calls the dependencies of a route. Without this, a client without a key that sends a
body at the least rate that a connection must keep (kit/http/protocol.py) occupies a connection and the memory of what
has arrived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.routing import Match

from contracts.errors import SaccadeError
from kit.auth.mapped_credential import refusal_of
from kit.auth.principal import asks_for_key
from kit.http.problems import send_problem

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send


class CallerFirst:
    """Pure ASGI middleware: answers 401 to a request with a body whose route needs a caller, if it has none."""

    def __init__(self, app: ASGIApp, application: FastAPI) -> None:
        """Wrap an application; ``application`` has the routes and keeps its authenticator in its state."""
        self._app, self._application = app, application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and _has_body(scope) and (error := self._refusal(scope)):
            await send_problem(scope, send, error)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> SaccadeError | None:
        error = refusal_of(self._application.state.authenticator, HTTPConnection(scope))
        if error is None:
            return None
        # Only who is refused pays for a second search of the routes.
        for route in self._application.router.routes:
            if route.matches(scope)[0] is Match.FULL:
                if not isinstance(route, APIRoute) or not asks_for_key(route.dependant):
                    return None
                scope["route"] = route  # as after routing: metrics and log name it
                return error
        return None


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() not in (b"", b"0"))
        for name, value in scope["headers"]
    )
