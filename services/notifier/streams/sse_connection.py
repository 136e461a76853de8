"""SSE connection that replaces uvicorn's HTTP protocol: one socket and transport per stream, no task.

Uvicorn parses the request and writes the response's head, through all middleware. From then on the stream owns the
connection and writes the chunks of the body itself: an event's chunk is made once for all clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from kit.http.protocol import HttpProtocol
from services.notifier.streams.sse import HEARTBEAT, chunk

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Key of ``SseHttpProtocol.take_over`` in a request's scope.
TAKE_OVER: Final = "saccade.take_over"

_LAST_CHUNK: Final = b"0\r\n\r\n"
_HEARTBEAT_CHUNK: Final = chunk(HEARTBEAT)
#: A client has nothing to send on a stream's connection: beyond this the connection is aborted.
_MAX_RECEIVED_BYTES: Final = 64 * 1024
#: Received bytes are read into this buffer and ignored; one for all connections.
_IGNORED: Final = bytearray(4096)


class ConnectionOwner(Protocol):
    """Callbacks of a connection to its stream."""

    def on_blocked(self) -> None:
        """Handle that written bytes stay in this process: the client does not keep up."""

    def on_writable(self) -> None:
        """Handle that all bytes are written."""

    def on_disconnected(self) -> None:
        """Handle that the connection is closed."""

    def on_server_stop(self) -> None:
        """Handle that the server stops."""


class SseConnection(asyncio.BufferedProtocol):
    """A stream's connection after the response's head."""

    __slots__ = ("_chunked", "_connections", "_owner", "_received_bytes", "_transport")

    def __init__(self, owner: ConnectionOwner) -> None:
        """Notify ``owner`` once the connection was taken over."""
        self._owner = owner
        self._received_bytes = 0

    def begin(self, transport: asyncio.Transport, *, chunked: bool, connections: set[Any]) -> None:
        """Take over the transport; ``connections`` are those whose end the server waits for."""
        self._transport = transport
        self._chunked = chunked
        self._connections = connections
        connections.add(self)
        transport.set_protocol(self)
        # Any byte that the kernel does not accept shows that the client is slow.
        transport.set_write_buffer_limits(high=0)

    def write(self, data: bytes) -> None:
        """Write frames for this client only."""
        self._transport.write(chunk(data) if self._chunked else data)

    @property
    def send(self) -> Callable[[bytes], int] | None:
        """Fastest way to send a ready chunk while nothing is buffered; None where bodies are not chunked.

        It returns how many bytes were sent, or raises OSError; send the rest with ``write_rest``.
        """
        return _sender(self._transport) if self._chunked else None

    def write_rest(self, data: bytes) -> None:
        """Write the part of a chunk that ``send`` did not send."""
        self._transport.write(data)

    def heartbeat(self) -> None:
        """Write a comment line."""
        self._transport.write(_HEARTBEAT_CHUNK if self._chunked else HEARTBEAT)

    def end(self) -> None:
        """End the body and close the connection once all is written."""
        if self._chunked:
            self._transport.write(_LAST_CHUNK)
        # Later: asyncio's transport closes its socket twice, and fails, if it is closed while it calls resume_writing.
        asyncio.get_running_loop().call_soon(self._transport.close)

    def abort(self) -> None:
        """Close without writing the rest: the client sees an incomplete body."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Notify the owner: called by uvicorn when it stops."""
        self._owner.on_server_stop()

    def pause_writing(self) -> None:
        """Notify the owner: called when the kernel's buffer is full."""
        self._owner.on_blocked()

    def resume_writing(self) -> None:
        """Notify the owner: called when all bytes are written."""
        self._owner.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Notify the owner: called when the transport is closed."""
        self._connections.discard(self)
        self._owner.on_disconnected()
        del self._owner  # breaks the reference cycle, so that no garbage collection is needed

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's
        """Return the buffer for received bytes, for example of a further request, which is not answered."""
        return _IGNORED

    def buffer_updated(self, nbytes: int) -> None:
        """Count received bytes and ignore them."""
        self._received_bytes += nbytes
        if self._received_bytes > _MAX_RECEIVED_BYTES:
            self.abort()


def _sender(transport: asyncio.Transport) -> Callable[[bytes], int]:
    """Return a function that sends without asyncio's checks, which take 7 % of a delivery (the rest is the kernel).

    It uses the socket, not its file descriptor, which may be another client's after a disconnect.
    """
    socket = getattr(transport.get_extra_info("socket"), "_sock", None)
    if socket is not None and transport.get_extra_info("sslcontext") is None:
        send: Callable[[bytes], int] = socket.send
        return send

    def write(data: bytes) -> int:
        transport.write(data)
        return len(data)

    return write


class SseHttpProtocol(HttpProtocol):
    """HTTP protocol of the notifier: a response can take its connection over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Initialize as uvicorn does."""
        super().__init__(*args, **kwargs)
        self._application = self.app
        self.app = self._call_application

    def connection_lost(self, exc: Exception | None) -> None:
        """Restore the application, which breaks a reference cycle."""
        super().connection_lost(exc)
        self.app = self._application

    async def _call_application(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[TAKE_OVER] = self.take_over
        try:
            await self._application(scope, receive, send)
        finally:
            scope.pop(TAKE_OVER, None)  # breaks the reference cycle of protocol and scope

    def take_over(self, connection: SseConnection) -> bool:
        """Pass the transport to ``connection``, after the head of a response without Content-Length.

        Returns:
            False when the client has disconnected.
        """
        if self.cycle.disconnected:
            return False
        self.cycle.disconnected = True  # the request's task no longer uses the connection
        self._cancel_limit()
        self.connections.discard(self)
        self.server_state.total_requests += 1
        self.flow.resume_reading()  # paused by a pipelined request, a disconnect would go unnoticed
        # As h11 does: without a length the body is chunked, or for HTTP/1.0 it ends with the connection.
        connection.begin(self.transport, chunked=self.scope["http_version"] >= "1.1", connections=self.connections)
        self.app = self._application
        return True
