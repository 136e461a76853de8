"""Gives every event to whom it concerns: one subscription for the process, routed in memory by tenant and subject.

Keeps the newest events in a ring for those who join: a join that the ring covers touches no server.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import Final

from kit.bus.event_store import StoredEvent
from services.notifier.metrics import Metrics
from services.notifier.streams.sse import Selection, StreamEvent
from services.notifier.streams.subscriber import Subscriber, deliver

#: Looks at the streams in the time between two heartbeats.
_BEATS: Final = 8


class Hub:
    """All open streams of the process."""

    def __init__(self, metrics: Metrics, *, ring_events: int, ring_bytes: int, heartbeat_s: float) -> None:
        """Start empty; ``begin`` says where the stream stands."""
        self._given = metrics.given
        self._ring: deque[StreamEvent] = deque()
        self._ring_events = ring_events
        self._ring_bytes = ring_bytes
        self._ring_used_bytes = 0
        self._heartbeat_s = heartbeat_s
        #: By tenant and subject (None: all of the tenant's): whether an event belongs is asked once a selection.
        self._routes: dict[tuple[str, str | None], dict[Selection, set[Subscriber]]] = {}
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

    def on_event(self, stored: StoredEvent) -> None:
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
        for selection, streams in self._concerned(event):
            deliver(event, streams)
            if event.ends and selection.ends:
                for subscriber in streams:
                    if subscriber.ended:  # not one that has read further already
                        subscriber.close("ended")
            told += len(streams)
        self._given.events += 1
        self._given.frames += told

    def on_progress(self, subject: str, body: bytes) -> None:
        """Take progress, which is kept nowhere."""
        event = StreamEvent.of(subject, body, self.epoch)
        told = 0
        for _, streams in self._concerned(event):
            for subscriber in streams:
                subscriber.offer_progress(event)
            told += len(streams)
        self._given.frames += told

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
        selection = subscriber.selection
        route = self._routes.setdefault((selection.tenant, selection.subject_id), {})
        route.setdefault(selection, set()).add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Forget a stream."""
        self.open.discard(subscriber)
        selection = subscriber.selection
        place = (selection.tenant, selection.subject_id)
        route = self._routes.get(place, {})
        streams = route.get(selection, set())
        streams.discard(subscriber)
        if not streams:
            route.pop(selection, None)
        if not route:
            self._routes.pop(place, None)

    async def beat(self) -> None:
        """Keep idle streams open and close those whose time is over, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._heartbeat_s / _BEATS)
            now = loop.time()
            for subscriber in list(self.open):
                subscriber.quiet_beats += 1
                if now >= subscriber.expires:
                    subscriber.close("rotated")
                elif subscriber.quiet_beats >= _BEATS and subscriber.live:
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

    def _concerned(self, event: StreamEvent) -> list[tuple[Selection, list[Subscriber]]]:
        """List the streams that show an event; a copy, since giving one can end a stream."""
        return [
            (selection, list(streams))
            for subject_id in (event.subject_id, None)
            for selection, streams in self._routes.get((event.tenant, subject_id), {}).items()
            if selection.takes(event)
        ]


def _size(event: StreamEvent) -> int:
    """Estimate what an event takes in the ring: its body, and its frame once that is made."""
    return 2 * len(event.body) + 500
