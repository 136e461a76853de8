"""One open stream: writes frames without a task while the client keeps up, and limits its backlog when it does not.

Durable events are queued in order and never dropped; progress is replaced by the newest of its job. Beyond the limit
the stream is closed, and the client resumes by its cursor.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from kit.auth.api_keys import Principal
from services.notifier.streams.sse import LIVE, READING, Selection, StreamEvent, stream_head
from services.notifier.streams.sse_connection import SseConnection

#: Why a stream was closed: its job or session ended, it expired, its client's key is no longer valid, its client was
#: too slow or disconnected, the bus is unavailable, the process stops.
Reason = Literal["ended", "rotated", "revoked", "slow", "gone", "bus_away", "stopping"]

_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class StreamLimits:
    """Limits of streams: their number, their lifetime, and the backlog of one client."""

    max_streams: int
    backlog_events: int
    backlog_bytes: int
    blocked_s: float
    rotate_s: float


class StreamClosed(Exception):  # noqa: N818 - a normal end, not a fault
    """The stream was closed while history was written to it."""


class StreamBacklog:
    """Unsent events of one slow client."""

    __slots__ = ("_durable", "_progress", "size_bytes")

    def __init__(self) -> None:
        """Start empty."""
        self._durable: deque[StreamEvent] = deque()
        #: By subject and type: a session has progress and acknowledged frames.
        self._progress: dict[tuple[str, str], StreamEvent] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        """Return the number of durable events and of kinds of progress."""
        return len(self._durable) + len(self._progress)

    def within(self, limits: StreamLimits) -> bool:
        """Return whether the durable events are within the limits."""
        return len(self._durable) <= limits.backlog_events and self.size_bytes <= limits.backlog_bytes

    def put(self, event: StreamEvent) -> None:
        """Queue a durable event; the end of a job or session drops its progress."""
        self._durable.append(event)
        self.size_bytes += len(event.frame)
        if event.ends:
            for key in [key for key in self._progress if key[0] == event.subject_id]:
                del self._progress[key]

    def put_progress(self, event: StreamEvent) -> bool:
        """Keep the newest progress of its job or session; return whether it replaced another."""
        key = (event.subject_id, event.type)
        replaces = key in self._progress
        self._progress[key] = event
        return replaces

    def next_frames(self) -> bytes:
        """Remove and return the next frames to write."""
        frames: list[bytes] = []
        size = 0
        while self._durable and size < _CHUNK_BYTES:
            frames.append(self._durable.popleft().frame)
            size += len(frames[-1])
        self.size_bytes -= size
        if not self._durable:
            frames += [event.frame for event in self._progress.values()]
            self._progress.clear()
        return b"".join(frames)


class Subscriber:
    """One client's stream. All methods are called in the event loop."""

    __slots__ = (
        "_backlog",
        "_blocked",
        "_drained",
        "_limits",
        "_live_is_unsaid",
        "_on_end",
        "caller",
        "conflated",
        "connection",
        "ended",
        "expires",
        "idle_checks",
        "joined",
        "live",
        "position",
        "reason",
        "selection",
        "send",
    )

    def __init__(
        self, selection: Selection, caller: Principal, limits: StreamLimits, on_end: Callable[[Subscriber], None]
    ) -> None:
        """Send ``selection`` to ``caller``; ``on_end`` is called once, when the stream is closed."""
        self._limits = limits
        self._on_end = on_end
        #: Set while written bytes are still in this process; further events then go to the backlog.
        self._blocked: asyncio.TimerHandle | None = None
        self._backlog: StreamBacklog | None = None
        self._drained: asyncio.Future[None] | None = None
        #: Set while a ready chunk can be sent directly, which is nearly always: the hot path of each delivery.
        self.send: Callable[[bytes], int] | None = None
        self.connection = SseConnection(self)
        self.selection = selection
        self.caller = caller
        #: The client has got all of its events up to this sequence.
        self.position = 0
        #: The last event that was sent ends the job or session.
        self.ended = False
        self.reason: Reason | None = None
        #: The history is written; the hub delivers from now on.
        self.live = False
        #: Events that had arrived when it became live: it has those of them that are its own.
        self.joined = 0
        #: ``LIVE`` has to be written, behind what the client has not read yet.
        self._live_is_unsaid = False
        self.conflated = 0
        #: Checks of the hub since the last write.
        self.idle_checks = 0
        now = asyncio.get_running_loop().time()
        self.expires = now + limits.rotate_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads reconnects

    def offer(self, event: StreamEvent) -> None:
        """Send or queue a durable event, unless the client has it."""
        if event.sequence <= self.position or self.reason is not None:
            return
        self.position = event.sequence
        if event.ends is not None:
            self.ended = event.ends
        if self.send is not None:
            self._send(event.chunk)
            return
        if self._blocked is None:
            self._write(event.frame)
            return
        backlog = self._backlog = self._backlog or StreamBacklog()
        backlog.put(event)
        if not backlog.within(self._limits):
            self.close("slow")

    def offer_progress(self, event: StreamEvent) -> None:
        """Send progress; for a slow client only the newest of each job is queued."""
        if self.reason is not None:
            return
        if self.send is not None:
            self._send(event.chunk)
        elif self._blocked is None:
            self._write(event.frame)
        else:
            self._backlog = self._backlog or StreamBacklog()
            self.conflated += self._backlog.put_progress(event)

    def send_ready(self, chunk: bytes, position: int) -> bool:
        """Send ready events up to ``position`` in one write; return whether that was possible."""
        if self.send is None:
            return False
        self.position = position
        self._send(chunk)
        return True

    def begin(self) -> None:
        """Write the stream's head."""
        self._write(stream_head())

    def heartbeat(self) -> None:
        """Write a comment line, unless other bytes are still unsent."""
        if self._blocked is not None or self.reason is not None:
            return
        self.idle_checks = 0
        if self.live:
            self.connection.heartbeat()
        else:
            self.connection.write(READING)

    def say_live(self) -> None:
        """Write the comment line behind the history, once the client has read that."""
        self._live_is_unsaid = self._blocked is not None
        if not self._live_is_unsaid:
            self._write(LIVE)

    async def write(self, events: Iterable[StreamEvent]) -> None:
        """Write history at the client's pace, before the stream is live.

        Raises:
            StreamClosed: the client disconnected or is too slow.
        """
        frames: list[bytes] = []
        size = 0
        for event in events:
            if event.sequence <= self.position or not self.selection.matches(event):
                continue
            self.position = event.sequence
            if event.ends is not None:
                self.ended = event.ends
            frames.append(event.frame)
            size += len(event.frame)
            if size >= _CHUNK_BYTES:
                await self.write_bytes(b"".join(frames))
                frames, size = [], 0
        if frames:
            await self.write_bytes(b"".join(frames))

    async def write_bytes(self, data: bytes) -> None:
        """Write ready frames at the client's pace, before the stream is live.

        Raises:
            StreamClosed: the client disconnected or is too slow.
        """
        if self._blocked is not None and self.reason is None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        if self.reason is not None:
            raise StreamClosed
        self._write(data)

    def close(self, reason: Reason) -> None:
        """Close the stream; its backlog is written first, unless the client is too slow or may not read it any more."""
        if self.reason is not None:
            return
        self._end(reason)
        if reason in ("slow", "revoked"):
            self._backlog = None
        if reason == "slow":
            self.connection.abort()
        elif self._blocked is None:
            self.connection.end()

    def on_blocked(self) -> None:
        """Start the time limit of a client that does not keep up."""
        # A network failure stalls many clients at the same time; they are closed at different times.
        timeout_s = self._limits.blocked_s * random.uniform(1.0, 1.2)  # noqa: S311 - spreads work
        self._blocked = asyncio.get_running_loop().call_later(timeout_s, self._on_timeout)
        self.send = None

    def on_writable(self) -> None:
        """Write the backlog: the client has read what was written before."""
        self._unblock()
        while self._backlog and self._blocked is None:
            self._write(self._backlog.next_frames())
        if self._blocked is not None:
            return
        self._backlog = None
        if self.reason is not None:
            self.connection.end()
        elif self._live_is_unsaid:
            self.say_live()
        self._wake()

    def on_disconnected(self) -> None:
        """Close the stream: called when the connection closes."""
        self._unblock()
        self._backlog = self.send = None
        if self.reason is None:
            self._end("gone")

    def on_server_stop(self) -> None:
        """Close the stream: called when the server stops."""
        self.close("stopping")

    def _on_timeout(self) -> None:
        """Abort the connection of a client that has read nothing for too long, also when its stream has ended."""
        self.close("slow")
        self.connection.abort()

    def _end(self, reason: Reason) -> None:
        self.reason = reason
        self.send = None
        self._on_end(self)
        self._wake()

    def _unblock(self) -> None:
        if self._blocked is not None:
            self._blocked.cancel()
            self._blocked = None

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _write(self, data: bytes) -> None:
        self.idle_checks = 0
        self.connection.write(data)
        if self._blocked is None and self.reason is None:
            self.send = self.connection.send

    def _send(self, chunk: bytes) -> None:
        assert self.send
        self.idle_checks = 0
        try:
            sent = self.send(chunk)
        except OSError:
            sent = 0
        if sent != len(chunk):
            self.connection.write_rest(chunk[sent:])


def deliver(event: StreamEvent, subscribers: list[Subscriber]) -> None:
    """Offer a durable event to many streams; the common case is inlined, because it is the hot path."""
    if event.ends is not None:
        for subscriber in subscribers:
            subscriber.offer(event)
        return
    sequence, chunk = event.sequence, event.chunk
    size = len(chunk)
    for subscriber in subscribers:
        send = subscriber.send
        if send is None:
            subscriber.offer(event)
        elif subscriber.position < sequence:
            subscriber.position = sequence
            subscriber.idle_checks = 0
            try:
                sent = send(chunk)
            except OSError:
                sent = 0
            if sent != size:
                subscriber.connection.write_rest(chunk[sent:])
