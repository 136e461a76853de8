"""Takes a stream's connection over from the HTTP server: an open stream is a socket, its transport and no task.

Uvicorn parses the request and writes the response's head, through all wrappers around the application. From then on
the connection is the stream's own, which frames its body itself: an event's bytes are framed once for all clients.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from uvicorn.protocols.http.h11_impl import H11Protocol

from services.notifier.streams.sse import HEARTBEAT, chunk

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

#: Where a request's scope holds ``StreamingHttp.take_over``.
TAKE_OVER: Final = "saccade.take_over"

_LAST_CHUNK: Final = b"0\r\n\r\n"
_HEARTBEAT_CHUNK: Final = chunk(HEARTBEAT)
#: A client has nothing more to say on a stream's connection: beyond this it is cut.
_UNASKED_BYTES: Final = 64 * 1024
#: What it says is read into this and forgotten; one for all, since nobody looks at it.
_FORGOTTEN: Final = bytearray(4096)


class Client(Protocol):
    """What a connection tells."""

    def blocked(self) -> None:
        """Hear that what is written waits in this process: the client does not keep up."""

    def writable(self) -> None:
        """Hear that nothing waits any more."""

    def gone(self) -> None:
        """Hear that the connection is no more."""

    def stop(self) -> None:
        """Hear that the server ends."""


class Connection(asyncio.BufferedProtocol):
    """A stream's connection after the response's head."""

    __slots__ = ("_all", "_chunked", "_client", "_transport", "_unasked_bytes")

    def __init__(self, client: Client) -> None:
        """Tell ``client`` what happens, once the connection was taken over."""
        self._client = client
        self._unasked_bytes = 0

    def begin(self, transport: asyncio.Transport, *, chunked: bool, among: set[Any]) -> None:
        """Go on with a connection of ``among``, all that the server knows of, where it waits for their end."""
        self._transport = transport
        self._chunked = chunked
        self._all = among
        among.add(self)
        transport.set_protocol(self)
        # Whatever the kernel does not take shows at once that the client is slow.
        transport.set_write_buffer_limits(high=0)

    def write(self, data: bytes) -> None:
        """Write frames of this client's own."""
        self._transport.write(chunk(data) if self._chunked else data)

    @property
    def send(self) -> Callable[[bytes], int] | None:
        """Give the shortest way for a ready chunk while nothing waits; None where bodies have no chunks.

        It tells how much it took, or raises an OSError; the rest is for ``write_rest``.
        """
        return _sender(self._transport) if self._chunked else None

    def write_rest(self, data: bytes) -> None:
        """Write what ``send`` did not take of a chunk."""
        self._transport.write(data)

    def beat(self) -> None:
        """Write a comment line."""
        self._transport.write(_HEARTBEAT_CHUNK if self._chunked else HEARTBEAT)

    def end(self) -> None:
        """End the body as it should and close, when all is written."""
        if self._chunked:
            self._transport.write(_LAST_CHUNK)
        self._transport.close()

    def cut(self) -> None:
        """Close without what waits: the client sees that the body is not whole."""
        self._transport.abort()

    def shutdown(self) -> None:
        """Hear from uvicorn that it ends."""
        self._client.stop()

    def pause_writing(self) -> None:
        """Hear from the transport that the kernel's buffer is full."""
        self._client.blocked()

    def resume_writing(self) -> None:
        """Hear from the transport that all is written."""
        self._client.writable()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Hear from the transport that it is closed."""
        self._all.discard(self)
        self._client.gone()
        del self._client  # they know each other, and neither should wait for a garbage collection

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's
        """Give room for what the client says: a further request perhaps, which the closed connection answers."""
        return _FORGOTTEN

    def buffer_updated(self, nbytes: int) -> None:
        """Forget what the client said."""
        self._unasked_bytes += nbytes
        if self._unasked_bytes > _UNASKED_BYTES:
            self.cut()


def _sender(transport: asyncio.Transport) -> Callable[[bytes], int]:
    """Hand bytes to the kernel without asyncio's own checks: 7 % of a delivery, whose rest is the kernel's.

    The socket and not its number: that of a connection that is gone may be another client's.
    """
    socket = getattr(transport.get_extra_info("socket"), "_sock", None)
    if socket is not None and transport.get_extra_info("sslcontext") is None:
        send: Callable[[bytes], int] = socket.send
        return send

    def write(data: bytes) -> int:
        transport.write(data)
        return len(data)

    return write


class StreamingHttp(H11Protocol):
    """Uvicorn's HTTP/1.1, whose connection a response can take over."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Serve as uvicorn does."""
        super().__init__(*given, **named)
        self._application = self.app
        self.app = self._offering

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear from the transport that it is closed."""
        super().connection_lost(exc)
        self.app = self._application

    async def _offering(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[TAKE_OVER] = self.take_over
        try:
            await self._application(scope, receive, send)
        finally:
            scope.pop(TAKE_OVER, None)  # else protocol and scope would keep each other until a garbage collection

    def take_over(self, connection: Connection) -> bool:
        """Give the connection away, after the head of a response whose body has no given length.

        Returns:
            False when the client is gone already.
        """
        if self.cycle.disconnected:
            return False
        self.cycle.disconnected = True  # nothing that the request's task still does concerns the connection
        self.connections.discard(self)
        self.server_state.total_requests += 1
        self.flow.resume_reading()  # paused by a pipelined request, it would not hear that the client goes
        # As h11 decides it: without a length, the end of the body is marked, or for HTTP/1.0 it is the connection's.
        connection.begin(self.transport, chunked=self.scope["http_version"] >= "1.1", among=self.connections)
        self.app = self._application
        return True
