"""The one origin: accepts connections, reads the request line, and passes each connection to the service of its path.

The service takes over the socket itself (kit/http/passed_connections.py), so that requests and responses do not pass
through this process. It answers only where no service can: a service that is starting, a path that is not public, a
client that sends no request line. A service returns a connection whose next request is for another one.
"""

from __future__ import annotations

import asyncio
import errno
import random
import resource
import socket
from dataclasses import dataclass
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.http_routes import RoutedService, is_event_stream, service_of
from contracts.limits import KIB, REQUEST_LINE_BYTES
from kit.http.connection_channel import ConnectionChannel
from kit.http.raw_answers import LastAnswer, raw_answer, raw_problem
from kit.http.request_target import method_of, path_of, request_line

#: Answer to an event stream while the notifier is unavailable: an EventSource never reconnects after another status.
_RECONNECT_LATER: Final = b":\nretry: %d\n"
#: The answer holds no data, so every page may read it; a page that may not would not reconnect.
_RECONNECT_LATER_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "access-control-allow-origin": "*",
}
#: Connections without a request line that are open at once, at most half of the files that this process may open;
#: beyond it the oldest is closed.
_MAX_ARRIVALS: Final = 4096
_ACCEPTS_PER_TURN: Final = 64
_READ_BYTES: Final = 64 * KIB
_SWEEP_S: Final = 1.0
#: Pause before the next connection is accepted where the kernel has no resources for one.
_EXHAUSTED_PAUSE_S: Final = 0.2
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


@dataclass(slots=True)
class _Arrival:
    """A connection whose request line has not arrived."""

    connection: socket.socket
    received: bytes
    deadline: float


class Origin:
    """Listener of an embedded system."""

    def __init__(self, request_line_s: float = 15.0) -> None:
        """Pass nothing yet; a client has ``request_line_s`` to send its request line."""
        self._request_line_s = request_line_s
        #: To the services that were started.
        self.channels: dict[RoutedService, ConnectionChannel] = {}
        #: In the order of their deadlines.
        self._arrivals: dict[int, _Arrival] = {}
        self._answers: set[asyncio.Task[object]] = set()
        self._listener: socket.socket | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    def start(self, listener: socket.socket) -> None:
        """Accept connections of a listening socket."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._max_arrivals = min(_MAX_ARRIVALS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)
        self._sweeping = self._loop.call_later(_SWEEP_S, self._sweep)

    def connect(self, service: RoutedService, end: socket.socket) -> None:
        """Pass connections over a channel to a service that was started again."""
        if (previous := self.channels.pop(service, None)) is not None:
            previous.close()
        self.channels[service] = ConnectionChannel(end, on_connection=self._route, on_unsent=self._answer_unavailable)

    @property
    def arrivals(self) -> int:
        """Return the number of connections whose request line has not arrived."""
        return len(self._arrivals)

    def is_ready(self, service: RoutedService) -> bool:
        """Return whether a service takes connections."""
        channel = self.channels.get(service)
        return channel is not None and channel.is_ready

    def stop(self) -> None:
        """Accept no more, and close all connections that were not passed; services can still return theirs."""
        listener, self._listener = self._listener, None
        if listener:
            self._loop.remove_reader(listener)
            listener.close()  # else clients would connect and wait until the whole system has stopped
        if self._sweeping:
            self._sweeping.cancel()
        for arrival in self._arrivals.values():
            self._loop.remove_reader(arrival.connection)
            arrival.connection.close()
        self._arrivals.clear()

    def close(self) -> None:
        """Stop, and close the channels, once the services have ended: one whose channel ends starts again."""
        self.stop()
        for channel in self.channels.values():
            channel.close()
        for answer in self._answers:
            answer.cancel()

    def _accept(self) -> None:
        assert self._listener
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_EXHAUSTED_PAUSE_S, self._accept_again)
                return
            connection.setblocking(False)
            self._read(connection, b"")

    def _accept_again(self) -> None:
        if self._listener:
            self._loop.add_reader(self._listener, self._accept)

    def _read(self, connection: socket.socket, received: bytes) -> None:
        """Read what has arrived, and wait for the rest of the request line."""
        number = connection.fileno()
        try:
            data = connection.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            if number not in self._arrivals:
                self._wait(connection, received)
            return
        except OSError:
            data = b""
        arrival = self._arrivals.get(number)
        received += data
        line = request_line(received)
        too_long = len(received if line is None else line) > REQUEST_LINE_BYTES
        no_http = received[:1] < b"!"  # as h11: TLS, for example, whose client would wait for the time limit
        if data and line is None and not too_long and not no_http:
            if arrival:
                arrival.received = received
            else:
                self._wait(connection, received)
            return
        if arrival:
            self._forget(arrival)
        if not data:
            connection.close()
        elif too_long:
            self._answer(connection, raw_problem(SaccadeError(ErrorCode.TARGET_TOO_LONG)))
        elif line is None:
            self._answer(connection, raw_problem(SaccadeError(ErrorCode.MALFORMED_REQUEST)))
        else:
            self._route(connection, received)

    def _wait(self, connection: socket.socket, received: bytes) -> None:
        if len(self._arrivals) >= self._max_arrivals:
            oldest = next(iter(self._arrivals.values()))
            self._forget(oldest)
            oldest.connection.close()
        deadline = self._loop.time() + self._request_line_s
        self._arrivals[connection.fileno()] = _Arrival(connection, received, deadline)
        self._loop.add_reader(connection, self._on_readable, connection.fileno())

    def _on_readable(self, number: int) -> None:
        arrival = self._arrivals[number]
        self._read(arrival.connection, arrival.received)

    def _forget(self, arrival: _Arrival) -> None:
        self._loop.remove_reader(arrival.connection)
        del self._arrivals[arrival.connection.fileno()]

    def _sweep(self) -> None:
        """End the connections whose time is over."""
        self._sweeping = self._loop.call_later(min(_SWEEP_S, self._request_line_s), self._sweep)
        now = self._loop.time()
        for arrival in list(self._arrivals.values()):
            if arrival.deadline > now:
                return
            self._forget(arrival)
            if arrival.received:
                self._answer(arrival.connection, raw_problem(SaccadeError(ErrorCode.REQUEST_TIMEOUT)))
            else:
                arrival.connection.close()  # connected in advance, as browsers do

    def _route(self, connection: socket.socket, received: bytes) -> None:
        """Pass a connection to the service of its request."""
        line = request_line(received)
        if line is None:  # a service returns complete request lines only
            connection.close()
            return
        service = service_of(path_of(line))
        if service is None:
            self._answer(connection, raw_problem(SaccadeError(ErrorCode.NOT_FOUND)))
            return
        if not self.is_ready(service) or not self.channels[service].pass_connection(connection, received):
            self._answer_unavailable(connection, received)

    def _answer_unavailable(self, connection: socket.socket, received: bytes) -> None:
        """Answer for a service that takes no connections."""
        line = request_line(received) or b""
        path = path_of(line)
        if method_of(line) == b"GET" and is_event_stream(path):
            pause_ms = random.randint(1000, 3000)  # noqa: S311 - spreads reconnections, no secret
            self._answer(connection, raw_answer(200, _RECONNECT_LATER_HEADERS, _RECONNECT_LATER % pause_ms))
        else:
            detail = f"The {service_of(path)} is starting."
            self._answer(connection, raw_problem(SaccadeError(ErrorCode.SERVICE_UNAVAILABLE, detail)))

    def _answer(self, connection: socket.socket, answer: bytes) -> None:
        """Answer here, and close the connection."""
        task = self._loop.create_task(self._write(connection, answer))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _write(self, connection: socket.socket, answer: bytes) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: LastAnswer(answer), connection)
        except OSError:
            connection.close()
