"""Requests of pages of this server, the only ones in which the cookie of a browser's session counts. Pure.

A browser adds the cookie to requests of other pages too. ``SameSite=Strict`` stops those of other sites, and ports are
no other site: the bucket of an embedded system, which serves users' HTML, is another port of the same host. So
``Sec-Fetch-Site`` decides, which no page can set; Chromium sends none with a WebSocket, and always an ``Origin``.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection

from kit.auth.api_keys import hostname_of, is_loopback

#: Browsers accept a cookie of this name only over TLS (Chromium and Firefox on loopback too), and only for this host.
_TLS_NAME: Final = "__Host-saccade"
#: Name over plain HTTP on loopback, where Safari keeps no cookie that is ``Secure``.
_LOOPBACK_NAME: Final = "saccade"


def is_over_tls(connection: HTTPConnection) -> bool:
    """Return whether the client has sent a request over TLS, which a proxy in front may end.

    The proxy says so in a header, which no page of another origin can have a browser send.
    """
    forwarded = connection.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return (forwarded or connection.scope.get("scheme")) in ("https", "wss")


def cookie_name(connection: HTTPConnection) -> str | None:
    """Return the name of the cookie where the request came; None where others on the network could read it."""
    if is_over_tls(connection):
        return _TLS_NAME
    name = hostname_of(connection.headers.get("host", ""))
    return _LOOPBACK_NAME if name is not None and is_loopback(name) else None


def is_of_own_page(connection: HTTPConnection) -> bool:
    """Return whether a page of this server sent a request, or its user by the address bar."""
    headers = connection.headers
    if is_of_foreign_page(connection):
        return False
    site = headers.get("sec-fetch-site")
    if site == "none":
        is_navigation = headers.get("sec-fetch-mode") == "navigate"
        return is_navigation and connection.scope.get("method") in ("GET", "HEAD")
    return site == "same-origin" or "origin" in headers


def is_of_foreign_page(connection: HTTPConnection) -> bool:
    """Return whether the page of another origin sent a request; programs send neither of the headers that tell."""
    headers = connection.headers
    scheme = "https" if is_over_tls(connection) else "http"
    own_origin = f"{scheme}://{headers.get('host', '').lower()}"
    if headers.get("origin", own_origin).lower() != own_origin:
        return True
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")


def session_values(connection: HTTPConnection) -> list[str]:
    """Return the values of the session's cookie that count in a request: of none that another page may have sent.

    There may be several, because a page at another port can set a cookie of the same name for a longer path.
    """
    name = cookie_name(connection)
    if name is None or "cookie" not in connection.headers or not is_of_own_page(connection):
        return []
    pairs = (pair.partition("=") for line in connection.headers.getlist("cookie") for pair in line.split(";"))
    return [value.strip() for given, _, value in pairs if given.strip() == name]
