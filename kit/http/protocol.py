"""HTTP protocol of every service: uvicorn's, with time limits, problems as answers, and connections that move.

A client that sends nothing, or a byte now and then, is disconnected: the head of a request has one time limit, and a
body must keep a minimum rate. So is one whose request takes long to parse for what it brings: thousands of headers, or
of chunks. What cannot be parsed is answered by a problem like every other error.

A connection that the origin passed to this process (kit/http/passed_connections.py) may carry a request for another
service next: then it is returned, with the bytes received so far.
"""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import h11
from h11._receivebuffer import ReceiveBuffer
from uvicorn.protocols.http.h11_impl import H11Protocol

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB, REQUEST_HEAD_BYTES, REQUEST_LINE_BYTES
from kit.http.message_limit import message_limit
from kit.http.raw_answers import LastAnswer, raw_problem
from kit.http.request_target import head_bytes, path_of, request_line

if TYPE_CHECKING:
    import socket

#: Hint for bytes that are no request.
NOT_HTTP: Final = "Send a request as RFC 9112 describes: HTTP/1.1, one Host header, valid header names and framing."

#: Most lines of a head: h11 and all that looks for a header take a few microseconds for each, and 64 KiB hold 16,000.
_HEAD_LINES: Final = 200
#: Chunks of a body that may be of any size; more of them have so many bytes on average. Each costs as much as a read.
_CHUNKS: Final = 1000
_CHUNK_BYTES: Final = 256


@dataclass(frozen=True)
class TimeLimits:
    """Time limits of a client."""

    #: From the connection, or the first byte of a further request, to the end of the head.
    head_s: float = 15.0
    #: Body bytes are counted over this time, while this process reads them.
    body_window_s: float = 15.0
    body_bytes_per_s: float = 1 * KIB
    #: From a response to the next request on its connection.
    idle_s: float = 30.0


@dataclass(slots=True)
class PassedConnection:
    """A connection that the origin passed to this process."""

    #: What the origin received already.
    received: bytes
    #: Whether this service answers a path.
    owns: Callable[[str], bool]
    #: Takes the connection with its next request, which another service answers.
    give_back: Callable[[socket.socket, bytes], None]


class _Received(ReceiveBuffer):
    """Buffer of h11, which makes a header of each line of a head, and of what may follow a body in chunks."""

    def maybe_extract_lines(self) -> list[bytearray] | None:
        """Return the lines before the next empty one."""
        lines = super().maybe_extract_lines()
        if lines is not None and len(lines) > _HEAD_LINES:
            raise h11.RemoteProtocolError(f"More than {_HEAD_LINES} lines of headers", error_status_hint=431)
        return lines


class _Connection(h11.Connection):
    """h11's state of a client's connection; it takes a body in very many small chunks for none."""

    def __init__(self, max_incomplete_event_size: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size)
        self._receive_buffer = _Received()
        self._chunks = self._body_bytes = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """Return the next event.

        Raises:
            h11.RemoteProtocolError: what was received is no request.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._body_bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_end
            self._body_bytes += len(event.data)
            if self._chunks > _CHUNKS + self._body_bytes // _CHUNK_BYTES:
                raise h11.RemoteProtocolError(f"More than {_CHUNKS:,} chunks have less than {_CHUNK_BYTES} bytes")
        return event


class HttpProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol, extended."""

    limits: TimeLimits = TimeLimits()
    passed: PassedConnection | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Initialize as uvicorn does."""
        super().__init__(*args, **kwargs)
        self.conn = _Connection(self.config.h11_max_incomplete_event_size or REQUEST_HEAD_BYTES)
        self.timeout_keep_alive = self.limits.idle_s  # type: ignore[assignment]
        self._limit: asyncio.TimerHandle | None = None
        self._limits_head = False
        self._received_bytes = 0
        #: The next request's bytes, kept while a response is written whose connection then moves.
        self._leaving: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the time limit of the first head."""
        super().connection_made(transport)
        self._limit_head()
        if self.passed:
            received, self.passed.received = self.passed.received, b""
            self.data_received(received)

    def data_received(self, data: bytes) -> None:
        """Parse bytes."""
        self._received_bytes += len(data)
        super().data_received(data)

    def handle_events(self) -> None:
        """Handle what was received, unless it is a head that is too large or a request for another service."""
        if not self._discards_body() or (self._is_between_requests() and not self._accepts_head()):
            return
        super().handle_events()
        if self.transport.get_protocol() is self:
            self._choose_limit()

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed: called by uvicorn while it handles h11's error."""
        error = sys.exc_info()[1]
        message = f"{error}." if isinstance(error, h11.RemoteProtocolError) else msg
        self._refuse(SaccadeError(ErrorCode.MALFORMED_REQUEST, message, hint=NOT_HTTP))

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the time limit."""
        self._cancel_limit()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave the connection to the WebSocket's protocol, with the limit of its path."""
        self._cancel_limit()
        limit = message_limit(path_of(b"GET " + event.target))
        if limit != self.config.ws_max_size:
            self.config = copy.copy(self.config)
            self.config.ws_max_size = limit
        super().handle_websocket_upgrade(event)

    def resume_writing(self) -> None:
        """Move the connection once the last response is written."""
        super().resume_writing()
        if self._leaving is not None and not self.transport.get_write_buffer_size():
            # Later: asyncio's transport closes its socket twice, and fails, if it is closed while it calls this.
            self.loop.call_soon(self._give_back)

    def _discards_body(self) -> bool:
        """Read the rest of the body of an answered request; return whether what follows it can be handled."""
        while self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            try:
                event = self.conn.next_event()
            except h11.RemoteProtocolError:
                self.transport.close()
                return False
            if event is h11.NEED_DATA:
                return False  # the limit of the body holds
            if isinstance(event, h11.EndOfMessage):
                self.conn.start_next_cycle()
                self._cancel_limit()
                self.timeout_keep_alive_task = self.loop.call_later(
                    self.timeout_keep_alive, self.timeout_keep_alive_handler
                )
        return True

    def _is_between_requests(self) -> bool:
        return self.conn.our_state is h11.IDLE and self.conn.their_state is h11.IDLE

    def _accepts_head(self) -> bool:
        """Return whether the request whose bytes have arrived is to be handled here and now."""
        received, _ = self.conn.trailing_data
        line = request_line(received)
        if len(received if line is None else line) > REQUEST_LINE_BYTES:
            self._refuse(SaccadeError(ErrorCode.TARGET_TOO_LONG))
            return False
        if line is None:
            if received and received[0] < ord("!"):
                return True  # h11 refuses it at once
            if received:
                self._unset_keepalive_if_required()
                self._limit_head()
            return False
        if self.passed is None or self.passed.owns(path_of(line)):
            size = head_bytes(received)
            if size > REQUEST_HEAD_BYTES or received.count(b"\n", 0, size) >= _HEAD_LINES:
                self._refuse(SaccadeError(ErrorCode.HEAD_TOO_LARGE))
                return False
            return True
        self._leaving = received
        self.transport.pause_reading()
        self._cancel_limit()
        self._unset_keepalive_if_required()
        if self.transport.get_write_buffer_size():
            self.transport.set_write_buffer_limits(high=0)  # calls ``resume_writing`` once all is written
        else:
            self._give_back()
        return False

    def _give_back(self) -> None:
        assert self.passed
        assert self._leaving is not None
        if self.transport.is_closing():
            return
        received, self._leaving = self._leaving, b""
        self.transport.pause_reading()
        try:
            # A duplicate: the transport closes its own, which does not end the connection.
            connection = self.transport.get_extra_info("socket").dup()
        except OSError:  # this process has no file left
            self.transport.abort()
            return
        self.transport.abort()
        self.passed.give_back(connection, received)

    def _choose_limit(self) -> None:
        """Set the time limit of what the client sends next."""
        if self.transport.is_closing():
            self._cancel_limit()
        elif self.conn.their_state is h11.SEND_BODY:
            if self._limit is None or self._limits_head:
                self._limit_body()
        elif self.conn.their_state is not h11.IDLE:
            self._cancel_limit()
        elif self.conn.trailing_data[0]:
            self._limit_head()
        elif self.cycle is not None:
            self._cancel_limit()  # idle: uvicorn's keep-alive limit holds

    def _limit_head(self) -> None:
        if self._limit is None or not self._limits_head:
            self._set_limit(self.limits.head_s, self._on_slow_head, limits_head=True)

    def _limit_body(self) -> None:
        arguments = (self._received_bytes, self._makes_client_wait())
        self._set_limit(self.limits.body_window_s, self._on_window_end, *arguments, limits_head=False)

    def _makes_client_wait(self) -> bool:
        """Return whether the client cannot send its body, or waits for "100 Continue"."""
        return self.flow.read_paused or (self.cycle is not None and self.cycle.waiting_for_100_continue)

    def _set_limit(self, delay_s: float, callback: Callable[..., None], *arguments: object, limits_head: bool) -> None:
        self._cancel_limit()
        self._limit, self._limits_head = self.loop.call_later(delay_s, callback, *arguments), limits_head

    def _cancel_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _on_slow_head(self) -> None:
        self._limit = None
        if self.conn.trailing_data[0]:
            message = f"The head of the request was not complete after {self.limits.head_s:.3g} s."
            self._refuse(SaccadeError(ErrorCode.REQUEST_TIMEOUT, message))
        else:
            self.transport.close()  # connected in advance, as browsers do

    def _on_window_end(self, received_bytes: int, waited: bool) -> None:
        self._limit = None
        if self.conn.their_state is not h11.SEND_BODY:
            return
        expected = self.limits.body_window_s * self.limits.body_bytes_per_s
        if self.conn.our_state is h11.DONE:
            self.transport.close()  # answered: the rest of the body had a window to come in
            return
        if waited or self._makes_client_wait() or self._received_bytes - received_bytes >= expected:
            self._limit_body()
            return
        message = f"The body came with less than {self.limits.body_bytes_per_s:.0f} bytes per second."
        self._refuse(SaccadeError(ErrorCode.REQUEST_TIMEOUT, message))

    def _refuse(self, error: SaccadeError) -> None:
        """Answer with a problem where no response has begun, and close."""
        self._cancel_limit()
        self._unset_keepalive_if_required()
        answers = self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and not self.transport.is_closing()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if not answers:
            self.transport.close()
            return
        self.connections.discard(self)
        self.flow.resume_writing()
        last = LastAnswer(raw_problem(error))
        self.transport.set_protocol(last)
        last.connection_made(self.transport)
