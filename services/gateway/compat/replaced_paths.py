"""Base paths of the replaced systems, ``/compat/<name>/…``, beside the bare paths of those whose paths do not collide.

Their routes differ in what ``/health`` answers, so each has a base path. A client that can keep nothing but a URL may
have its credential in it: ``/compat/<name>/k/<key or word>/…``. Credentials leave the request before anything else sees
it, so that no log contains one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, quote, unquote_plus

from kit.auth.mapped_credential import MAPPED_CREDENTIAL
from services.gateway.compat.credentials import Presented, ReplacedCredentials

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Key in the scope: the path that the client's URL begins with, which may contain a credential.
BASE_PATH: Final = "saccade.base_path"
_HEADER: Final = b"x-magic-word"
_QUERY: Final = "magic_word"


@dataclass(frozen=True)
class ReplacedSystem:
    """A replaced system: where its routes are, and which paths are its own without a base path."""

    #: Prefix of its routes in this server.
    at: str
    #: Paths below its base path that are routed, besides those with its prefix; empty: all.
    routes: frozenset[str] = frozenset()
    #: Bare paths that are its own.
    bare: frozenset[str] = frozenset()
    #: Prefixes of further bare paths that are its own.
    prefix: str | tuple[str, ...] = ()


_SPLAT: Final = frozenset({"/upload-frame", "/update-joint-angles", "/status", "/get-ply", "/stop-training", "/reset"})
SYSTEMS: Final = {
    "splat": ReplacedSystem("", _SPLAT | {"/health"}, _SPLAT),
    "nerf": ReplacedSystem("", frozenset({"/health"}), prefix=("/api/nerf/", "/api/upload/")),
    "badminton": ReplacedSystem("/badminton", prefix="/badminton/"),
    "badminton-endpoint": ReplacedSystem("/badminton-endpoint", prefix="/badminton-endpoint/"),
    "laps": ReplacedSystem(
        "/compat/laps", bare=frozenset({"/sign-upload", "/start-job", "/detect-laps"}), prefix="/jobs/"
    ),
    "vision": ReplacedSystem("/compat/vision", bare=frozenset({"/vision/stream", "/poke/send", "/captions/upload"})),
}
_KEY: Final = r"(?:/k/(?P<key>[^/]+))?(?P<rest>/.*)?"
_BASE: Final = re.compile(rf"(?P<base>/compat/(?P<name>{'|'.join(SYSTEMS)})){_KEY}", re.DOTALL)
_PREFIXED: Final = re.compile(rf"(?P<base>/(?P<name>badminton-endpoint|badminton)){_KEY}", re.DOTALL)


@dataclass(frozen=True)
class ReplacedPath:
    """A path of a replaced system."""

    system: str
    #: The path as this server routes it.
    path: str
    #: What the client's URL begins with; empty for a bare path.
    base: str
    #: Credential in the path.
    segment: str | None = field(default=None, repr=False)


def parse_path(path: str) -> ReplacedPath | None:
    """Return what a decoded path is of; None if it is no path of a replaced system."""
    if found := _BASE.fullmatch(path) or _PREFIXED.fullmatch(path):
        system, rest = SYSTEMS[found["name"]], found["rest"] or "/"
        base = found["base"] + (f"/k/{found['key']}" if found["key"] else "")
        inside = not system.routes or rest in system.routes or _has_prefix(system, rest)
        routed = (system.at + rest if found["rest"] or found["key"] else system.at) if inside else found["base"] + rest
        return ReplacedPath(found["name"], routed, base, found["key"])
    for name, system in SYSTEMS.items():
        if path in system.bare or _has_prefix(system, path):
            return ReplacedPath(name, (system.at if not system.routes else "") + path, "")
    return None


def _has_prefix(system: ReplacedSystem, path: str) -> bool:
    return path.startswith(system.prefix)


class ReplacedPaths:
    """Pure ASGI middleware: gives requests of replaced systems' clients the path and the caller that they stand for."""

    def __init__(self, app: ASGIApp, credentials: ReplacedCredentials) -> None:
        """Wrap an application with its other middleware."""
        self._app = app
        self._credentials = credentials

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] in ("http", "websocket") and (found := parse_path(scope["path"])):
            scope = self._rewritten(scope, found)
        await self._app(scope, receive, send)

    def _rewritten(self, scope: Scope, found: ReplacedPath) -> Scope:
        headers = [pair for pair in scope["headers"] if pair[0] != _HEADER]
        query, word = _without_word(scope.get("query_string", b""))
        presented = Presented(
            has_authorization=any(name == b"authorization" for name, _ in headers),
            segment=found.segment,
            header=next((value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER), None),
            query=word,
        )
        changed: dict[str, Any] = {"path": found.path, "query_string": query}
        if found.path != scope["path"]:
            changed["raw_path"] = quote(found.path, errors="surrogateescape").encode()
        if found.base:
            changed[BASE_PATH] = found.base
        mapped = self._credentials.mapped(found.system, presented)
        if mapped is not None:
            changed[MAPPED_CREDENTIAL] = mapped
        elif found.segment is not None:
            headers = [pair for pair in headers if pair[0] != b"authorization"]
            headers.append((b"authorization", b"Bearer " + found.segment.encode("utf-8", "surrogateescape")))
        return {**scope, **changed, "headers": headers}


def _without_word(query: bytes) -> tuple[bytes, str | None]:
    """Return a query without its word, and the word."""
    if _QUERY.encode() not in query and b"%" not in query:
        return query, None
    parts = query.split(b"&")
    kept = [part for part in parts if unquote_plus(part.partition(b"=")[0].decode("latin-1")) != _QUERY]
    if len(kept) == len(parts):
        return query, None
    words = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)[::-1])
    return b"&".join(kept), words.get(_QUERY, "")
