"""The newest events of the stream, as the process' one tail brings them: what is planned next, and bodies to send."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from contracts.limits import MIB
from kit.bus.event_store import EventStore, StoredEvent

_EVENTS: Final = 2000
_BYTES: Final = 8 * MIB
_READ_AT_ONCE: Final = 500


class Newest:
    """Every event after ``floor`` and up to ``head``; what is older is read from the stream."""

    def __init__(self, store: EventStore, *, events: int = _EVENTS, bytes_: int = _BYTES) -> None:
        """Keep so many events in memory, and read others from ``store``."""
        self._store = store
        self._kept: OrderedDict[int, StoredEvent] = OrderedDict()
        self._events = events
        self._bytes = bytes_
        self._used_bytes = 0
        self.floor = 0
        self.head = 0
        #: Set when an event has come.
        self.news = asyncio.Event()

    def begin(self, head: int) -> None:
        """Say after which event the tail starts."""
        self.floor = self.head = head

    def on_event(self, stored: StoredEvent) -> None:
        """Take a stored event, in the order of the stream."""
        self._kept[stored.sequence] = stored
        self._used_bytes += len(stored.body)
        while len(self._kept) > self._events or self._used_bytes > self._bytes:
            self.floor, oldest = self._kept.popitem(last=False)
            self._used_bytes -= len(oldest.body)
        self.head = stored.sequence
        self.news.set()

    async def after(self, position: int) -> tuple[list[StoredEvent], int]:
        """Give some events after a position, in order, and up to where they go.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if position >= self.floor:
            newer: list[StoredEvent] = []
            for stored in reversed(self._kept.values()):
                if stored.sequence <= position:
                    break
                newer.append(stored)
            return newer[::-1], max(position, self.head)
        floor = self.floor  # all up to it is in the stream; what is newer may lag on the replica that answers
        found, left = await self._store.batch(position, size=_READ_AT_ONCE)
        read_to = found[-1].sequence if found else position
        return found, read_to if left else max(read_to, floor)

    async def body(self, sequence: int) -> bytes | None:
        """Give one event's bytes; None when the stream has it no more.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if stored := self._kept.get(sequence):
            return stored.body
        found, _ = await self._store.batch(sequence - 1, size=1)
        return found[0].body if found and found[0].sequence == sequence else None
