"""Complete HTTP/1.1 responses as bytes, for refusals that come before an application is called."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from contracts.errors import SaccadeError
from contracts.ids import new_id
from contracts.limits import MIB
from kit.http.problems import PROBLEM_JSON, problem, problem_headers

#: A refused client may send this much more, for this long, before its connection is closed.
_DISCARDED_BYTES: Final = MIB
_DISCARD_S: Final = 2.0


def raw_answer(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return a response after which the connection is closed."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def raw_problem(error: SaccadeError) -> bytes:
    """Return an error as problem+json."""
    request_id = new_id("req")
    headers = problem_headers(error) | {"content-type": PROBLEM_JSON, "x-request-id": request_id}
    return raw_answer(error.kind.status, headers, json.dumps(problem(error, request_id)).encode())


class LastAnswer(asyncio.Protocol):
    """Protocol that writes a last response, and discards what the client still sends.

    A connection closed with unread bytes is reset, and the client may lose the response (RFC 9112, section 9.6).
    """

    def __init__(self, answer: bytes) -> None:
        """Answer with ``answer``."""
        self._answer = answer
        self._left_bytes = _DISCARDED_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the response and end our side."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timeout = asyncio.get_running_loop().call_later(_DISCARD_S, transport.abort)
        transport.write(self._answer)
        with contextlib.suppress(OSError):  # the client has reset the connection
            transport.write_eof()
        if not transport.is_closing():
            transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Discard bytes, up to a limit."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Cancel the time limit."""
        self._timeout.cancel()
