"""Gives every event to whom it concerns: one subscription for the process, routed in memory by tenant and subject.

Keeps the newest events in a ring for those who join: a join that the ring covers touches no server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice

from services.kit.event_store import Stored
from services.notifier.metrics import Metrics
from services.notifier.sse import Selection, StreamEvent
from services.notifier.subscriber import Subscriber


class Hub:
    """All open streams of the process."""

    def __init__(self, metrics: Metrics, *, ring_events: int, ring_bytes: int, heartbeat_s: float) -> None:
        """Start empty; ``begin`` says where the stream stands."""
        self._metrics = metrics
        self._ring: deque[StreamEvent] = deque()
        self._ring_events = ring_events
        self._ring_bytes = ring_bytes
        self._ring_used_bytes = 0
        self._heartbeat_s = heartbeat_s
        self._by_tenant: dict[str, set[Subscriber]] = {}
        self._by_subject: dict[tuple[str, str], set[Subscriber]] = {}
        #: Every response that is open, joining or live.
        self.open: set[Subscriber] = set()
        self.stopping = False
        self.epoch = ""
        #: Every stored event after ``floor`` and up to ``head`` is in the ring.
        self.floor = 0
        self.head = 0

    def begin(self, epoch: str, head: int) -> None:
        """Say in which incarnation of the stream, and after which of its events, the hub starts."""
        self.epoch, self.floor, self.head = epoch, head, head

    def on_event(self, stored: Stored) -> None:
        """Take a stored event, in the order of the stream."""
        self.head = stored.sequence
        event = StreamEvent.stored(stored, self.epoch)
        self._ring.append(event)
        self._ring_used_bytes += _size(event)
        while len(self._ring) > self._ring_events or self._ring_used_bytes > self._ring_bytes:
            oldest = self._ring.popleft()
            self._ring_used_bytes -= _size(oldest)
            self.floor = oldest.sequence
        told = 0
        for subscriber in self._concerned(event):
            if subscriber.selection.takes(event):
                subscriber.offer(event)
                told += 1
                if subscriber.ended and subscriber.selection.ends:
                    subscriber.close("ended")
        self._metrics.events.inc()
        self._metrics.frames.inc(told)

    def on_progress(self, subject: str, body: bytes) -> None:
        """Take progress, which is kept nowhere."""
        event = StreamEvent.of(subject, body, self.epoch)
        told = 0
        for subscriber in self._concerned(event):
            if subscriber.selection.takes(event):
                subscriber.offer_progress(event)
                told += 1
        self._metrics.frames.inc(told)

    def since(self, position: int, selection: Selection) -> list[StreamEvent]:
        """List what the ring holds of a selection after a position, which must not be before ``floor``."""
        newer: list[StreamEvent] = []
        for event in reversed(self._ring):
            if event.sequence <= position:
                break
            if selection.takes(event):
                newer.append(event)
        return newer[::-1]

    def add(self, subscriber: Subscriber) -> None:
        """Make a stream live. It must have been given all events up to ``head``."""
        subscriber.live = True
        self._routes(subscriber).add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a stream."""
        self.open.discard(subscriber)
        streams = self._routes(subscriber)
        streams.discard(subscriber)
        if not streams:
            selection = subscriber.selection
            if selection.subject_id is None:
                self._by_tenant.pop(selection.tenant, None)
            else:
                self._by_subject.pop((selection.tenant, selection.subject_id), None)

    async def beat(self) -> None:
        """Keep idle streams open and close those whose time is over, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._heartbeat_s / 8)
            now = loop.time()
            due = now - self._heartbeat_s * 7 / 8
            for subscriber in list(self.open):
                if now >= subscriber.expires:
                    subscriber.close("rotated")
                elif subscriber.written <= due and subscriber.live:
                    subscriber.beat()

    async def drain(self, window_s: float) -> None:
        """Close every stream, spread over a window, and take no new ones."""
        self.stopping = True
        streams = list(self.open)
        slices = 20
        size = -(-len(streams) // slices) or 1
        for first in range(0, len(streams), size):
            for subscriber in islice(streams, first, first + size):
                subscriber.close("stopping")
            await asyncio.sleep(window_s / slices)

    def _routes(self, subscriber: Subscriber) -> set[Subscriber]:
        selection = subscriber.selection
        if selection.subject_id is None:
            return self._by_tenant.setdefault(selection.tenant, set())
        return self._by_subject.setdefault((selection.tenant, selection.subject_id), set())

    def _concerned(self, event: StreamEvent) -> list[Subscriber]:
        concerned = list(self._by_subject.get((event.tenant, event.subject_id), ()))
        concerned += self._by_tenant.get(event.tenant, ())
        return concerned


def _size(event: StreamEvent) -> int:
    """Estimate what an event takes in the ring: its body, and its frame once that is made."""
    return 2 * len(event.body) + 500
