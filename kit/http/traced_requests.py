"""Middleware that gives each request its trace context, records its span, and logs it where the operator wants that.

A line of the log has the key's id, never the key; and the path without tickets, which its query or a page's path holds.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

from contracts.trace_context import CURRENT, TraceContext, new_span_id, new_trace, parse_traceparent
from kit.auth.mapped_credential import KEY_ID
from kit.http.logged_path import logged_path
from kit.http.problems import request_id_of
from kit.tracing import Span, recorder

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("access")

#: Requests of monitoring, which nobody wants to see beside the others.
_UNTRACED: Final = frozenset({"/health", "/ready", "/metrics"})
_PATH_CHARACTERS: Final = 200


class TracedRequests:
    """Pure ASGI middleware; the outermost that sees the route's path."""

    def __init__(self, app: ASGIApp, *, is_logged: bool = False) -> None:
        """Wrap an application; with ``is_logged`` each request is a line of the log."""
        self._app = app
        self._is_logged = is_logged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, in the context of its trace."""
        if scope["type"] not in ("http", "websocket") or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        context = _sent_context(scope) or new_trace()
        recording, parent_id = recorder(), context.span_id
        is_recorded = recording is not None and recording.samples(context)
        if is_recorded:
            context = context.child(new_span_id(), sampled=True)
        token = CURRENT.set(str(context))
        try:
            if is_recorded or self._is_logged:
                await self._observe(scope, receive, send, context, parent_id if is_recorded else None)
            else:
                await self._app(scope, receive, send)
        finally:
            CURRENT.reset(token)

    async def _observe(
        self, scope: Scope, receive: Receive, send: Send, context: TraceContext, parent_id: str | None
    ) -> None:
        """Pass a request on, then record and log what became of it."""
        scope.setdefault("state", {})  # before an inner middleware copies the scope
        begun_ns, status = time.time_ns(), 0

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                status = message["status"]
            elif message["type"] == "websocket.accept":
                status = 101
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            ended_ns = time.time_ns()
            status = status or (403 if scope["type"] == "websocket" else 500)
            if parent_id is not None:
                _record(scope, context, parent_id, (begun_ns, ended_ns), status)
            if self._is_logged:
                _log(scope, context, (ended_ns - begun_ns) / 1e6, status)


def _sent_context(scope: Scope) -> TraceContext | None:
    for name, value in scope["headers"]:
        if name == b"traceparent":
            return parse_traceparent(value.decode("latin-1"))
    return None


def _method(scope: Scope) -> str:
    return str(scope.get("method", "WEBSOCKET"))


def _record(scope: Scope, context: TraceContext, parent_id: str, times_ns: tuple[int, int], status: int) -> None:
    using = recorder()
    if using is None:
        return
    route = getattr(scope.get("route"), "path", "")
    done = Span(f"{_method(scope)} {route}".rstrip(), "server", context, None, *times_ns)
    # A trace that began here has no span above this one.
    done.parent_id = parent_id if _sent_context(scope) else None
    done.attributes = {
        "http.request.method": _method(scope),
        "http.route": route,
        "http.response.status_code": status,
        "saccade.request_id": request_id_of(scope),
    }
    if status >= 500:
        done.error = str(status)
    using.record(done)


def _log(scope: Scope, context: TraceContext, duration_ms: float, status: int) -> None:
    state: dict[str, Any] = scope["state"]
    path = logged_path(str(scope["path"]))[:_PATH_CHARACTERS]
    fields = {
        "method": _method(scope),
        "path": path,
        "route": getattr(scope.get("route"), "path", None),
        "status": status,
        "duration_ms": round(duration_ms, 1),
        "client": (scope.get("client") or ("",))[0],
        "key_id": state.get(KEY_ID),
        "request_id": request_id_of(scope),
        "trace_id": context.trace_id,
    }
    log.info("%s %s %d", fields["method"], path, status, extra=fields)
