"""Channel between two processes over which accepted connections are passed, with the bytes already received of each.

Sockets go as SCM_RIGHTS ancillary data over a pair of Unix stream sockets. A frame is a kind, a length and as many
bytes; a connection's socket comes with the first byte of its frame.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

from contracts.limits import KIB

_HEADER: Final = struct.Struct("!cI")
_CONNECTION: Final = b"c"
_READY: Final = b"r"
_STOPPING: Final = b"s"
_TAKEN: Final = b"t"
#: Longest frame that is accepted: the request line with what came in the same packets.
MAX_RECEIVED_BYTES: Final = 256 * KIB
#: Connections that wait in this process because the other one does not read.
_MAX_WAITING: Final = 1024
_READ_BYTES: Final = 64 * KIB
#: Room for the sockets of one read; each frame carries at most one.
_SOCKETS_PER_READ: Final = 16
_READS_PER_TURN: Final = 64
# Not on macOS; there subprocesses are started with close_fds.
_CLOSE_ON_EXEC: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ConnectionChannel:
    """One end of a channel."""

    def __init__(
        self,
        end: socket.socket,
        *,
        on_connection: Callable[[socket.socket, bytes], None],
        on_unsent: Callable[[socket.socket, bytes], None] | None = None,
        on_closed: Callable[[], None] | None = None,
    ) -> None:
        """Receive from now on, in the running event loop.

        Args:
            end: one of a pair of Unix stream sockets.
            on_connection: called with each connection that the other side passes, and the bytes received from it.
            on_unsent: called with connections that the other side did not take before its end; closed without it.
            on_closed: called when the channel has ended by itself.
        """
        self._end = end
        self._on_connection = on_connection
        self._on_closed = on_closed
        self._on_unsent = on_unsent or (lambda connection, _: connection.close())
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        #: Received sockets whose frames are not complete; None for one that this process could not open.
        self._sockets: deque[socket.socket | None] = deque()
        #: Frames to send: a connection, or None, and its frame, from which sent bytes are removed.
        self._waiting: deque[tuple[socket.socket | None, bytes, bytes]] = deque()
        self._rest = b""
        #: Sent connections that the other side has not taken yet: open until then.
        self._sent: deque[tuple[socket.socket, bytes]] = deque()
        self._closed = False
        self._waits_for_room = False
        #: Whether the other side takes connections.
        self.is_ready = False
        end.setblocking(False)
        self._loop.add_reader(end, self._on_readable)

    def pass_connection(self, connection: socket.socket, received: bytes) -> bool:
        """Pass a connection and close it here; return False, and leave it open, where the other side cannot take it."""
        if self._closed or len(self._waiting) >= _MAX_WAITING or len(received) > MAX_RECEIVED_BYTES:
            return False
        self._send(connection, _HEADER.pack(_CONNECTION, len(received)) + received, received)
        return True

    def announce(self, *, ready: bool) -> None:
        """Send whether this side takes connections."""
        if not self._closed:
            self._send(None, _HEADER.pack(_READY if ready else _STOPPING, 0), b"")

    def close(self) -> None:
        """Close this end; connections that wait are handled as unsent."""
        if self._closed:
            return
        self._closed, self.is_ready = True, False
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()
        for received_socket in filter(None, self._sockets):
            received_socket.close()
        self._sockets.clear()
        waiting, self._waiting = self._waiting, deque()
        sent, self._sent = self._sent, deque()
        waited = [(connection, received) for connection, _, received in waiting if connection is not None]
        for connection, received in (*sent, *waited):
            self._on_unsent(connection, received)

    def _end_by_itself(self) -> None:
        if not self._closed:
            self.close()
            if self._on_closed:
                self._on_closed()

    def _send(self, connection: socket.socket | None, frame: bytes, received: bytes) -> None:
        self._waiting.append((connection, frame, received))
        if not self._waits_for_room:
            self._write()

    def _write(self) -> None:
        """Send what waits, until the kernel takes no more."""
        try:
            while self._rest or self._waiting:
                if self._rest:
                    self._rest = self._rest[self._end.send(self._rest) :]
                    continue
                connection, frame, received = self._waiting[0]
                if connection is None:
                    count = self._end.send(frame)
                else:
                    rights = array.array("i", [connection.fileno()])
                    count = self._end.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
                    self._sent.append((connection, received))
                self._waiting.popleft()
                self._rest = frame[count:]
        except (BlockingIOError, InterruptedError):
            self._waits_for_room = True
            self._loop.add_writer(self._end, self._write)
        except OSError as error:
            if error.errno == errno.ETOOMANYREFS:  # too many sockets are on their way: a limit of the kernel
                connection, _, received = self._waiting.popleft()
                if connection is not None:
                    self._on_unsent(connection, received)
                return
            self._on_readable()  # what was taken must not be answered here
            self._end_by_itself()
        else:
            if self._waits_for_room:
                self._waits_for_room = False
                self._loop.remove_writer(self._end)

    def _on_readable(self) -> None:
        for _ in range(_READS_PER_TURN):
            try:
                data, ancillary, flags, _ = self._end.recvmsg(
                    _READ_BYTES, socket.CMSG_SPACE(4 * _SOCKETS_PER_READ), _CLOSE_ON_EXEC
                )
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._end_by_itself()
                return
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i", content[: len(content) - len(content) % 4])
                    self._sockets.extend(socket.socket(fileno=number) for number in numbers)
            if not data:
                self._end_by_itself()
                return
            if flags & socket.MSG_CTRUNC:  # this process has no file left: the kernel closed the connection
                self._sockets.append(None)
            self._received += data
            self._take_frames()
            if self._closed:
                return

    def _take_frames(self) -> None:
        while len(self._received) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self._received)
            if length > MAX_RECEIVED_BYTES:
                self._end_by_itself()
                return
            end = _HEADER.size + length
            if len(self._received) < end:
                return
            content = bytes(self._received[_HEADER.size : end])
            del self._received[:end]
            if kind == _CONNECTION:
                connection = self._sockets.popleft()
                self._send(None, _HEADER.pack(_TAKEN, 0), b"")
                if connection is not None:
                    connection.setblocking(False)
                    self._on_connection(connection, content)
            elif kind == _TAKEN:
                self._sent.popleft()[0].close()
            else:
                self.is_ready = kind == _READY


def channel_ends() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a new channel."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for end in (ours, theirs):
        with contextlib.suppress(OSError):  # a hint: the kernel's default holds about 250 connections
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1024 * KIB)
    return ours, theirs
