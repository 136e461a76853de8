"""Request targets: the path in a request line, and absolute targets (RFC 9112, section 3.2.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SCHEMES: Final = (b"http://", b"https://")


def split_absolute(target: bytes) -> tuple[bytes | None, bytes]:
    """Return the authority of an absolute target (None in any other form) and the path with its query."""
    for scheme in _SCHEMES:
        if target[: len(scheme)].lower() == scheme:
            rest = target[len(scheme) :]
            end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
            path = rest[end:]
            return rest[:end], path if path.startswith(b"/") else b"/" + path
    return None, target


def request_line(received: bytes | bytearray) -> bytes | None:
    """Return the request's first line without its end; None while it is incomplete."""
    end = received.find(b"\n")
    return None if end < 0 else bytes(received[:end]).removesuffix(b"\r")


def head_bytes(received: bytes) -> int:
    """Return the length of a request's head, or of all that was received while it is incomplete."""
    ends = (received.find(b"\n\r\n"), received.find(b"\n\n"))
    return min((end for end in ends if end >= 0), default=len(received))


def method_of(line: bytes) -> bytes:
    """Return the method of a request line."""
    return line.split(b" ", 1)[0]


def path_of(line: bytes) -> str:
    """Return the decoded path of a request line, as an ASGI scope has it; ``/`` where there is none."""
    parts = line.split(b" ", 2)
    _, target = split_absolute(parts[1] if len(parts) > 1 else b"/")
    return unquote(target.partition(b"?")[0].decode("latin-1"))


class AbsoluteTargets:
    """Pure ASGI middleware: handles an absolute target as its path, and its authority as the Host."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] in ("http", "websocket"):
            authority, raw_path = split_absolute(scope.get("raw_path") or b"/")
            if authority is not None:
                # The Host header must be ignored; the guard checks what takes its place.
                headers = [pair for pair in scope["headers"] if pair[0] != b"host"]
                scope = {
                    **scope,
                    "raw_path": raw_path,
                    "path": unquote(raw_path.decode("latin-1")),
                    "headers": [(b"host", authority.rpartition(b"@")[2]), *headers],
                }
        await self._app(scope, receive, send)
