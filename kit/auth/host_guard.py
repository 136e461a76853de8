"""Middleware that refuses foreign Host and Origin headers and answers CORS preflight requests."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from contracts.errors import ErrorCode, SaccadeError
from kit.auth.api_keys import AuthSettings, hostname_of, is_loopback
from kit.auth.mapped_credential import MAPPED_CREDENTIAL, MappedCredential
from kit.http.problems import send_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Paths that need no key, which Prometheus and probes ask for by a pod's address or a container's name.
_MONITORING: Final = frozenset({"/health", "/ready", "/metrics"})
_PLAIN_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9_-]*[a-z0-9])?")
_CORS_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_CORS_HEADERS: Final = (
    "authorization, content-type, idempotency-key, if-none-match, last-event-id, prefer, traceparent, "
    "x-frame-captured-at, x-frame-clock-offset, x-frame-seq, x-frame-source"
)
_CORS_EXPOSED: Final = "etag, link, location, preference-applied, retry-after, x-request-id"


class HostGuard:
    """Pure ASGI middleware: refuses foreign Host and Origin headers, and answers CORS preflight requests."""

    def __init__(
        self, app: ASGIApp, settings: AuthSettings, answers_cors: Callable[[str], bool] = lambda _: False
    ) -> None:
        """Wrap an application; it answers preflight requests itself on paths for which ``answers_cors`` holds.

        Pages of this machine may send requests to such paths, and with API keys those of every origin: the clients for
        which these paths exist are pages served elsewhere, and send no credential that a browser adds by itself.
        """
        self._answers_cors = answers_cors
        self._app = app
        self._authenticated = settings.authenticated
        self._hosts = frozenset(settings.allowed_hosts)
        self._origins = frozenset(settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not (self._host_allowed(host) or (scope["path"] in _MONITORING and _is_no_website(host))):
            await send_problem(scope, send, SaccadeError(ErrorCode.HOST_NOT_ALLOWED, f"{host!r} is not served here."))
            return
        if origin is None:
            await self._app(scope, receive, send)
            return
        own_cors = self._answers_cors(scope["path"])
        same = origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")
        allowed = self._origin_allowed(origin)
        needs_key = self._authenticated and not _is_ambient(scope.get(MAPPED_CREDENTIAL))
        if not (needs_key or same or allowed or (own_cors and _is_of_this_machine(origin))):
            error = SaccadeError(
                ErrorCode.ORIGIN_NOT_ALLOWED,
                f"Pages of {origin!r} may not send requests to this server.",
                hint="Add the origin to SACCADE_ALLOWED_ORIGINS.",
            )
            await send_problem(scope, send, error)
            return
        if own_cors:
            await self._app(scope, receive, send)
            return
        cors = _cors(origin) if allowed else []
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and b"access-control-request-method" in headers:
            await _answer_preflight(send, cors)
            return

        async def send_with_cors(message: Message) -> None:
            if message["type"] == "http.response.start" and cors:
                message = {**message, "headers": [*message["headers"], *cors]}
            await send(message)

        await self._app(scope, receive, send_with_cors)

    def _host_allowed(self, host: str) -> bool:
        if self._authenticated and not self._hosts:
            return True
        name = hostname_of(host)
        if name is None:
            return False
        return is_loopback(name) or name in self._hosts or "*" in self._hosts

    def _origin_allowed(self, origin: str) -> bool:
        return origin.lower() in self._origins or ("*" in self._origins and self._authenticated)


def _is_no_website(host: str) -> bool:
    """Return whether no page of the internet can have this Host: an address, or a name without a dot.

    DNS rebinding needs a name that its owner can point elsewhere.
    """
    name = hostname_of(host)
    if not name:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return _PLAIN_NAME.fullmatch(name) is not None
    return True


def _is_ambient(mapped: MappedCredential | None) -> bool:
    return mapped is not None and mapped.ambient


def _is_of_this_machine(origin: str) -> bool:
    scheme, _, authority = origin.partition("://")
    name = hostname_of(authority) if scheme in ("http", "https") else None
    return name is not None and is_loopback(name)


def _cors(origin: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", _CORS_EXPOSED.encode()),
        (b"vary", b"origin"),
    ]


async def _answer_preflight(send: Send, cors: list[tuple[bytes, bytes]]) -> None:
    headers = [*cors, (b"content-length", b"0")]
    if cors:
        headers += [
            (b"access-control-allow-methods", _CORS_METHODS.encode()),
            (b"access-control-allow-headers", _CORS_HEADERS.encode()),
            (b"access-control-max-age", b"600"),
        ]
    await send({"type": "http.response.start", "status": 204 if cors else 403, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
