"""In-memory window of the newest events: input of the planner, and bodies to send."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from contracts.limits import MIB
from kit.bus.event_store import EventStore, StoredEvent

_EVENTS: Final = 2000
_BYTES: Final = 8 * MIB
_BATCH_EVENTS: Final = 500


class RecentEvents:
    """Every event after ``floor`` and up to ``head``; older ones are read from the stream."""

    def __init__(self, store: EventStore, head: int, *, max_events: int = _EVENTS, max_bytes: int = _BYTES) -> None:
        """Start after ``head``, the last event before those that the tail will pass in."""
        self._store = store
        self._events: OrderedDict[int, StoredEvent] = OrderedDict()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self.floor = self.head = head
        #: Set when there may be something new to plan.
        self.changed = asyncio.Event()

    def on_event(self, stored: StoredEvent) -> None:
        """Add a stored event, in the order of the stream."""
        self._events[stored.sequence] = stored
        self._used_bytes += len(stored.body)
        while len(self._events) > self._max_events or self._used_bytes > self._max_bytes:
            self.floor, oldest = self._events.popitem(last=False)
            self._used_bytes -= len(oldest.body)
        self.head = stored.sequence
        self.changed.set()

    async def read_after(self, position: int) -> tuple[list[StoredEvent], int]:
        """Return some events after a position, in order, and the sequence up to which they are complete.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if position >= self.floor:
            newer: list[StoredEvent] = []
            for stored in reversed(self._events.values()):
                if stored.sequence <= position:
                    break
                newer.append(stored)
            return newer[::-1], max(position, self.head)
        floor = self.floor  # events up to it are in the stream; newer ones may be missing on a replica that lags
        found, remaining = await self._store.batch(position, size=_BATCH_EVENTS)
        read_to = found[-1].sequence if found else position
        return found, read_to if remaining else max(read_to, floor)

    async def read_body(self, sequence: int) -> bytes | None:
        """Return one event's bytes; None when the stream no longer has it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if stored := self._events.get(sequence):
            return stored.body
        found, _ = await self._store.batch(sequence - 1, size=1)
        return found[0].body if found and found[0].sequence == sequence else None
