"""Hub of all event streams: one subscription per process, routed in memory by tenant and subject.

The newest events are kept in a ring for new streams: a join that the ring covers needs no request to NATS.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Final

from kit.auth.api_keys import Principal
from kit.auth.loop_time_shares import LoopTimeShares
from kit.bus.event_store import StoredEvent
from kit.bus.lineage import Lineage
from services.notifier.metrics import NotifierMetrics
from services.notifier.streams.event_batch import Arrival, deliver_together, take_batch
from services.notifier.streams.fan_out import PIECE_STREAMS, FanOut, Pieces
from services.notifier.streams.sse import Selection, StreamEvent
from services.notifier.streams.subscriber import Subscriber

#: Checks of the streams per heartbeat interval.
_CHECKS: Final = 8


class Hub:
    """All open streams of the process, and the ring of the newest events."""

    def __init__(self, metrics: NotifierMetrics, *, ring_events: int, ring_bytes: int, heartbeat_s: float) -> None:
        """Start empty; call ``begin`` before the first event."""
        self._counters = metrics.counters
        self._ring: deque[StreamEvent] = deque()
        self._ring_events = ring_events
        self._ring_bytes = ring_bytes
        self._ring_used_bytes = 0
        self._heartbeat_s = heartbeat_s
        #: By tenant and subject (None: all of the tenant's): an event is matched once per selection.
        self._routes: dict[tuple[str, str | None], dict[Selection, set[Subscriber]]] = {}
        #: What each tenant has used of the event loop, for its streams and its requests.
        self.shares = LoopTimeShares()
        self._fan_out = FanOut[Arrival](self._begin_pieces, self.shares)
        #: Number of events that have arrived, progress included.
        self._arrived = 0
        #: Every open stream, joining or live.
        self.open: set[Subscriber] = set()
        #: Whether a caller's key is still valid; without keys it always is.
        self.is_still_valid: Callable[[Principal], bool] | None = None
        self.stopping = False
        self.lineage = Lineage()
        #: Every stored event after ``floor`` and up to ``head`` is in the ring.
        self.floor = 0
        self.head = 0

    @property
    def epoch(self) -> str:
        """Epoch of the cursors that are sent."""
        return self.lineage.current.id

    @property
    def waiting(self) -> int:
        """Number of events that are not sent to all of their streams yet."""
        return len(self._fan_out)

    def begin(self, lineage: Lineage, head: int) -> None:
        """Set the epochs of the stream and the sequence after which the hub starts."""
        self.lineage, self.floor, self.head = lineage, head, head

    def on_event(self, stored: StoredEvent) -> None:
        """Deliver a stored event, in the order of the stream."""
        self.head = stored.sequence
        event = StreamEvent.stored(stored, self.epoch)
        self._ring.append(event)
        self._ring_used_bytes += _size(event)
        while len(self._ring) > self._ring_events or self._ring_used_bytes > self._ring_bytes:
            oldest = self._ring.popleft()
            self._ring_used_bytes -= _size(oldest)
            self.floor = oldest.sequence
        self._counters.events += 1
        self._put(event)

    def on_progress(self, subject: str, body: bytes) -> None:
        """Deliver progress, which is not kept."""
        self._put(StreamEvent.of(subject, body, self.epoch))

    def since(self, position: int, selection: Selection) -> list[StreamEvent]:
        """Return the ring's events of a selection after a position, which must not be before ``floor``."""
        newer: list[StreamEvent] = []
        for event in reversed(self._ring):
            if event.sequence <= position:
                break
            if selection.matches(event):
                newer.append(event)
        return newer[::-1]

    def add(self, subscriber: Subscriber) -> None:
        """Make a stream live. It must have all events up to ``head``."""
        subscriber.live, subscriber.joined = True, self._arrived
        selection = subscriber.selection
        route = self._routes.setdefault((selection.tenant, selection.subject_id), {})
        route.setdefault(selection, set()).add(subscriber)

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a stream."""
        self.open.discard(subscriber)
        selection = subscriber.selection
        key = (selection.tenant, selection.subject_id)
        route = self._routes.get(key, {})
        streams = route.get(selection, set())
        streams.discard(subscriber)
        if not streams:
            route.pop(selection, None)
        if not route:
            self._routes.pop(key, None)

    async def send_heartbeats(self) -> None:
        """Send heartbeats on idle streams, and close expired ones and those of revoked keys, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._heartbeat_s / _CHECKS)
            now = loop.time()
            self._close_revoked()
            for subscriber in list(self.open):
                subscriber.idle_checks += 1
                if now >= subscriber.expires:
                    subscriber.close("rotated")
                elif subscriber.idle_checks >= _CHECKS:
                    subscriber.heartbeat()

    def _close_revoked(self) -> None:
        """Close the streams whose callers' keys were removed or changed, or whose browsers' sessions have ended."""
        if self.is_still_valid is None:
            return
        # Equal callers may have come by sessions of their own.
        valid: dict[tuple[Principal, datetime | None], bool] = {}
        for subscriber in list(self.open):
            key = subscriber.caller, subscriber.caller.valid_until
            if key not in valid:
                valid[key] = self.is_still_valid(subscriber.caller)
            if not valid[key]:
                subscriber.close("revoked")

    async def drain(self, window_s: float) -> None:
        """Close all streams, spread over ``window_s``, and refuse new ones."""
        self.stopping = True
        self._fan_out.flush()
        streams = list(self.open)
        slices = 20
        size = -(-len(streams) // slices) or 1
        for first in range(0, len(streams), size):
            for subscriber in islice(streams, first, first + size):
                subscriber.close("stopping")
            await asyncio.sleep(window_s / slices)

    def _put(self, event: StreamEvent) -> None:
        self._arrived += 1
        self._fan_out.put(event.tenant, Arrival(event, self._arrived))

    def _begin_pieces(self, waiting: deque[Arrival]) -> Pieces:
        """Begin to send the first events that wait, as many as go together, to the streams of now.

        Streams that open later read them as history.
        """
        batch = take_batch(waiting)
        tenant = batch[0].event.tenant
        subjects: dict[str | None, None] = dict.fromkeys(arrival.event.subject_id for arrival in batch)
        candidates = [
            (selection, list(streams))
            for subject_id in (*subjects, None)
            for selection, streams in self._routes.get((tenant, subject_id), {}).items()
        ]
        return self._pieces(batch, candidates)

    def _pieces(self, batch: list[Arrival], candidates: list[tuple[Selection, list[Subscriber]]]) -> Pieces:
        """Send a batch to those of the candidates that get any of it."""
        done = 0
        for selection, streams in candidates:
            done += 1 + len(batch) // 8  # to match an event takes a tenth of what it takes to send it
            if selected := [arrival for arrival in batch if selection.matches(arrival.event)]:
                for first in range(0, len(streams), PIECE_STREAMS):
                    piece = streams[first : first + PIECE_STREAMS]
                    deliver_together(selected, selection, piece)
                    self._counters.frames += len(selected) * len(piece)
                    done += len(piece)
                    if done >= PIECE_STREAMS:
                        done = 0
                        yield
            elif done >= PIECE_STREAMS:
                done = 0
                yield


def _size(event: StreamEvent) -> int:
    """Return the estimated size of an event in the ring: its body, its frame and the object."""
    return 2 * len(event.body) + 500
