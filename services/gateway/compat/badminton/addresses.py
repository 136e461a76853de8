"""Addresses of the badminton tracker's routes: their prefix, the API key in their path, the URL that a client sees.

Its page sends no credential and keeps a path in the URL that it is given, so an API key is part of the path:
``/badminton/k/<id>.<secret>``. It is moved into the header before anything else sees the path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from kit.auth.api_keys import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "/badminton"
#: Its GPU endpoint (services/gateway/compat/badminton_endpoint/) is called without a credential too.
_WITH_KEY: Final = re.compile(r"(/badminton(?:-endpoint)?)/k/([^/]+)(/.*)?", re.DOTALL)
_RAW_KEY: Final = re.compile(rb"^(/badminton(?:-endpoint)?)/k/[^/]+")
#: Key in the scope: the path that the client's URL begins with, which contains the API key.
_BASE_PATH: Final = "saccade.base_path"


def is_badminton(path: str) -> bool:
    """Return whether a decoded path belongs to the badminton tracker's routes."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


class KeyInPath:
    """Pure ASGI middleware: moves the API key of a path into the Authorization header, so that no log contains it."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application with its other middleware."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] in ("http", "websocket") and (found := _WITH_KEY.fullmatch(scope["path"])):
            scope = _without_key(scope, found[1], found[2], found[3] or "/")
        await self._app(scope, receive, send)


def _without_key(scope: Scope, prefix: str, key: str, rest: str) -> Scope:
    headers = [pair for pair in scope["headers"] if pair[0] != b"authorization"]
    return {
        **scope,
        "path": prefix + rest,
        "raw_path": _RAW_KEY.sub(rb"\1", scope.get("raw_path") or b""),
        "headers": [*headers, (b"authorization", b"Bearer " + key.encode("utf-8", "surrogateescape"))],
        _BASE_PATH: f"{prefix}/k/{key}",
    }


def base_url(scope: Scope) -> str:
    """Return the URL that a client was given, ``https://example.com/badminton/k/<key>``, from one of its requests.

    Behind a proxy that ends TLS, a request arrives as http: the proxy's header tells, and so does the page's origin,
    because no page of https may open a connection without TLS to another machine.
    """
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    secure = scope.get("scheme") in ("https", "wss")
    secure = secure or headers.get(b"x-forwarded-proto", "").strip().lower() == "https"
    secure = secure or (headers.get(b"origin", "").startswith("https://") and not _is_this_machine(host))
    return f"{'https' if secure else 'http'}://{host}{scope.get(_BASE_PATH, PREFIX)}"


def _is_this_machine(authority: str) -> bool:
    return is_loopback(urlsplit(f"//{authority}").hostname or "")
