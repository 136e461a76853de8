"""Addresses of the badminton tracker's routes: their prefix, and the URL that a client sees.

Its page sends no credential and keeps a path in the URL that it is given, so an API key is part of the path:
``/badminton/k/<id>.<secret>``. ReplacedPaths moves it into the header before anything else sees the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from kit.auth.api_keys import is_loopback
from services.gateway.compat.replaced_paths import BASE_PATH

if TYPE_CHECKING:
    from starlette.types import Scope

PREFIX: Final = "/badminton"


def is_badminton(path: str) -> bool:
    """Return whether a decoded path belongs to the badminton tracker's routes."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


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
    return f"{'https' if secure else 'http'}://{host}{scope.get(BASE_PATH, PREFIX)}"


def _is_this_machine(authority: str) -> bool:
    return is_loopback(urlsplit(f"//{authority}").hostname or "")
