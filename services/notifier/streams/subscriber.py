"""One open stream: writes frames without a task while the client keeps up, and bounds what waits when it does not.

Durable events wait in order and are never dropped; progress is replaced by the newest of its job. Past the bound
the stream is closed, and the client resumes by its cursor.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from services.notifier.streams.connection import Connection
from services.notifier.streams.sse import Selection, StreamEvent, retry_line

#: Why a stream ended: its thing did, its time was over, its client was too slow or went, the bus is away, we stop.
Reason = Literal["ended", "rotated", "slow", "gone", "bus_away", "stopping"]

_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Bounds:
    """How many streams there may be, how long one lasts, and what may wait for its client."""

    max_streams: int
    backlog_events: int
    backlog_bytes: int
    blocked_s: float
    rotate_s: float


class Closed(Exception):  # noqa: N818 - it is news, not a fault
    """The stream ended while history was written to it."""


class Backlog:
    """What waits for one slow client."""

    __slots__ = ("_durable", "_progress", "size_bytes")

    def __init__(self) -> None:
        """Start empty."""
        self._durable: deque[StreamEvent] = deque()
        #: By what it is of and its type: a session has progress and acknowledged frames.
        self._progress: dict[tuple[str, str], StreamEvent] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        """Count the durable events and the kinds of progress that wait."""
        return len(self._durable) + len(self._progress)

    def within(self, bounds: Bounds) -> bool:
        """Tell whether the durable events are no more than may wait."""
        return len(self._durable) <= bounds.backlog_events and self.size_bytes <= bounds.backlog_bytes

    def put(self, event: StreamEvent) -> None:
        """Keep a durable event; the end of a job or session makes its progress stale."""
        self._durable.append(event)
        self.size_bytes += len(event.frame)
        if event.ends:
            for place in [place for place in self._progress if place[0] == event.subject_id]:
                del self._progress[place]

    def put_progress(self, event: StreamEvent) -> bool:
        """Keep the newest progress of its job or session; tell whether it took the place of another."""
        place = (event.subject_id, event.type)
        replaces = place in self._progress
        self._progress[place] = event
        return replaces

    def next_frames(self) -> bytes:
        """Give what is to be written next and keep it no longer."""
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
        "_bounds",
        "_drained",
        "_first",
        "_on_end",
        "conflated",
        "connection",
        "ended",
        "expires",
        "live",
        "position",
        "quiet_beats",
        "reason",
        "selection",
        "send",
    )

    def __init__(self, selection: Selection, bounds: Bounds, on_end: Callable[[Subscriber], None]) -> None:
        """Serve ``selection`` on ``connection``; ``on_end`` is called once, when nothing more is to be given."""
        self._bounds = bounds
        self._on_end = on_end
        self._first = True
        #: Runs while what was written waits in this process; then everything else waits in the backlog.
        self._blocked: asyncio.TimerHandle | None = None
        self._backlog: Backlog | None = None
        self._drained: asyncio.Future[None] | None = None
        #: Set while an event's ready chunk can be sent as it is, which is nearly always: the path of every delivery.
        self.send: Callable[[bytes], int] | None = None
        self.connection = Connection(self)
        self.selection = selection
        #: The client has been given all of its events up to this sequence.
        self.position = 0
        #: The newest event that was given out ends the stream's thing.
        self.ended = False
        self.reason: Reason | None = None
        #: All history has been given; the hub writes from now on.
        self.live = False
        self.conflated = 0
        #: So many heartbeats ago something was written.
        self.quiet_beats = 0
        now = asyncio.get_running_loop().time()
        self.expires = now + bounds.rotate_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads reconnects

    def offer(self, event: StreamEvent) -> None:
        """Give a durable event; nothing happens with one that the client has."""
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
        backlog = self._backlog = self._backlog or Backlog()
        backlog.put(event)
        if not backlog.within(self._bounds):
            self.close("slow")

    def offer_progress(self, event: StreamEvent) -> None:
        """Give progress; for a slow client only the newest of each job waits."""
        if self.reason is not None:
            return
        if self.send is not None:
            self._send(event.chunk)
        elif self._blocked is None:
            self._write(event.frame)
        else:
            self._backlog = self._backlog or Backlog()
            self.conflated += self._backlog.put_progress(event)

    def beat(self) -> None:
        """Write a comment line, unless other bytes are on their way."""
        if self._blocked is None and self.reason is None:
            self.quiet_beats = 0
            self.connection.beat()

    async def write(self, events: Iterable[StreamEvent]) -> None:
        """Write history at the client's pace, before the stream is live.

        Raises:
            Closed: the client is gone or too slow.
        """
        frames: list[bytes] = []
        size = 0
        for event in events:
            if event.sequence <= self.position or not self.selection.takes(event):
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
            Closed: the client is gone or too slow.
        """
        if self._blocked is not None and self.reason is None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained
        if self.reason is not None:
            raise Closed
        self._write(data)

    def close(self, reason: Reason) -> None:
        """End the stream; what waits is written first, unless the client is too slow."""
        if self.reason is not None:
            return
        self._end(reason)
        if reason == "slow":
            self._backlog = None
            self.connection.cut()
        elif self._blocked is None:
            self.connection.end()

    def blocked(self) -> None:
        """Hear that the client does not keep up."""
        # Many stall at one time when a network does; they need not all be closed at one time.
        patience_s = self._bounds.blocked_s * random.uniform(1.0, 1.2)  # noqa: S311 - spreads work
        self._blocked = asyncio.get_running_loop().call_later(patience_s, self._give_up)
        self.send = None

    def writable(self) -> None:
        """Hear that the client has all that was written: give it what came meanwhile."""
        self._unblock()
        while self._backlog and self._blocked is None:
            self._write(self._backlog.next_frames())
        if self._blocked is not None:
            return
        self._backlog = None
        if self.reason is not None:
            self.connection.end()
        self._wake()

    def gone(self) -> None:
        """Hear that the connection is no more."""
        self._unblock()
        self._backlog = self.send = None
        if self.reason is None:
            self._end("gone")

    def stop(self) -> None:
        """Hear that the server ends."""
        self.close("stopping")

    def _give_up(self) -> None:
        """Cut a client that has taken nothing for too long, also one whose stream has ended."""
        self.close("slow")
        self.connection.cut()

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
        self.quiet_beats = 0
        if self._first:
            self._first = False
            data = retry_line() + data
        self.connection.write(data)
        if self._blocked is None and self.reason is None:
            self.send = self.connection.send

    def _send(self, chunk: bytes) -> None:
        assert self.send
        self.quiet_beats = 0
        try:
            sent = self.send(chunk)
        except OSError:
            sent = 0
        if sent != len(chunk):
            self.connection.write_rest(chunk[sent:])


def deliver(event: StreamEvent, subscribers: list[Subscriber]) -> None:
    """Offer a durable event to many; what nearly all of them need is done here, in the fewest steps."""
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
            subscriber.quiet_beats = 0
            try:
                sent = send(chunk)
            except OSError:
                sent = 0
            if sent != size:
                subscriber.connection.write_rest(chunk[sent:])
