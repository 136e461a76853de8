"""WebSocket protocol of every service: uvicorn's, with a limit on the frames that are no message.

An application limits the messages that it takes, but pings, pongs and the parts of an unfinished message never reach
it. Uvicorn handles all that one read from the connection brings, forty thousand empty ones, before anything else runs;
it answers each ping whether its client reads or not, and keeps a list of the parts. Here what was read is parsed frame
by frame, up to the first message, and a client that sends more of those frames than any library does is disconnected.
So is one that goes on after the close of the application, which takes nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Opcode

from contracts.token_bucket import TokenBucket, Tokens

if TYPE_CHECKING:
    from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
    from websockets.frames import Frame

#: Parts of a message cost nothing from this size on: their bytes are limited, and paid for with their message.
_FREE_BYTES: Final = 256
#: Smaller ones, pings and pongs: so many at once, and so many a second. A connection costs its client one request, and
#: costs this process 10 µs for each of them.
FRAMES: Final = TokenBucket(most=200, per_s=100)
#: Parts that are kept; then they are joined. Each is an object, whatever is in it.
_PARTS: Final = 1024
#: Frames that are passed over after our close: more than a client has under way then. They are in no quota.
_PASSED_OVER: Final = 5_000
#: Longest head of a frame: RFC 6455, section 5.2.
_HEAD_BYTES: Final = 14
#: Close code: RFC 6455, section 7.4.1.
_POLICY: Final = 1008


class SocketProtocol(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket protocol, extended."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Initialize as uvicorn does."""
        super().__init__(*args, **kwargs)
        self._unparsed = memoryview(b"")
        #: What is still to come of the current frame, and whether it is not parsed: only a close is, after ours.
        self._missing_bytes = 0
        self._skips = False
        self._passed_over = 0
        self._frames: Tokens | None = None

    def data_received(self, data: bytes) -> None:
        """Parse bytes, up to the first message that they complete."""
        if not self.handshake_initiated:
            super().data_received(data)
            return
        self._unparsed = memoryview(bytes(self._unparsed) + data if self._unparsed else data)
        self._parse()

    async def receive(self) -> ASGIReceiveEvent:
        """Return the next message, and parse what came after it."""
        if self.read_paused and self.queue.qsize() == 1:
            # Before uvicorn reads on: it would be stopped at once, by the next message that was read already.
            self.read_paused = False
            self._parse()
            if not self.read_paused:
                self.transport.resume_reading()
        message = await super().receive()
        self._parse()
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message; after the last one, look for the client's close in what was read."""
        await super().send(message)
        if self.close_sent:
            self._parse()

    def handle_cont(self, event: Frame) -> None:
        """Keep a part of a message."""
        if not event.fin and len(event.data) < _FREE_BYTES and not self._admits():
            return
        if event.data or event.fin:  # an empty part is nothing to keep
            super().handle_cont(event)
        if len(self.frames) >= _PARTS:
            self.frames = [b"".join(self.frames)]

    def handle_ping(self) -> None:
        """Answer a ping."""
        if self._admits():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """Note the answer to a ping."""
        if self._admits():
            super().handle_pong(event)

    def _parse(self) -> None:
        """Parse what was read, up to the first message."""
        data, at = self._unparsed, 0
        while at < len(data) and not self.read_paused and not self.transport.is_closing():
            if not self._missing_bytes:
                head = data[at : at + _HEAD_BYTES]
                self._missing_bytes = frame_bytes(head)
                self._skips = self.close_sent and head[0] & 0xF != Opcode.CLOSE
                if not self._missing_bytes:
                    break
                self._passed_over += self._skips
                if self._passed_over > _PASSED_OVER:
                    self.transport.close()
                    break
            piece = data[at : at + self._missing_bytes]
            at += len(piece)
            self._missing_bytes -= len(piece)
            if not self._skips:
                super().data_received(piece)  # type: ignore[arg-type]  # it is only added to a buffer
        # An empty part of what was read would keep the whole of it, for as long as the connection is idle.
        self._unparsed = data[at:] if at < len(data) else memoryview(b"")

    def _admits(self) -> bool:
        """Count a frame that is no message; disconnect its client if that is one too many."""
        self._frames, wait_s = FRAMES.take(self._frames, self.loop.time())
        if not wait_s:
            return True
        self.conn.fail(_POLICY, "too many frames that are no message")
        if self.conn.close_sent is None:  # before the application has accepted
            self.transport.abort()
        else:
            self.handle_parser_exception()
        return False


def frame_bytes(head: memoryview) -> int:
    """Return the size of the frame that begins so, with its head; 0 if not enough of it is known."""
    if len(head) < 2:
        return 0
    length, size = head[1] & 0x7F, 2
    if length > 125:  # the length follows, in two or eight bytes
        size = 4 if length == 126 else 10
        if len(head) < size:
            return 0
        length = int.from_bytes(head[2:size])
    return size + (4 if head[1] & 0x80 else 0) + length
