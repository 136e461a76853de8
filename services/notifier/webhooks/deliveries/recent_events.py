"""In-memory window of the newest events: input of the planner, and bodies to send."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from contracts.errors import UNREADABLE_EVENTS, ErrorCode, SaccadeError
from contracts.limits import MIB
from kit.bus.event_store import EventStore, StoredEvent
from kit.history.history import History

log = logging.getLogger(__name__)

_EVENTS: Final = 2000
_BYTES: Final = 8 * MIB
_BATCH_EVENTS: Final = 500
#: Time for which one event of the archive is waited for: an attempt holds a slot meanwhile.
_ARCHIVE_S: Final = 30.0


class NewEvents(NamedTuple):
    """Events that follow a position."""

    events: list[StoredEvent]
    #: Sequence up to which they are complete; of a gap, up to which they are neither in the stream nor in memory.
    read_to: int
    is_gap: bool = False


class RecentEvents:
    """Every event after ``floor`` and up to ``head``; older ones are read from the stream."""

    def __init__(
        self,
        store: EventStore,
        head: int,
        history: History,
        *,
        max_events: int = _EVENTS,
        max_bytes: int = _BYTES,
    ) -> None:
        """Start after ``head``, the last event before those that the tail will pass in.

        ``history`` has what the stream has deleted.
        """
        self._store = store
        self._history = history
        self._events: OrderedDict[int, StoredEvent] = OrderedDict()
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._used_bytes = 0
        self.floor = self.head = head
        #: Set when there may be something new to plan.
        self.changed = asyncio.Event()
        self._plan: Callable[[StoredEvent, int], bool] = lambda *_: False

    def plan_on_arrival(self, plan: Callable[[StoredEvent, int], bool]) -> None:
        """Call ``plan`` with each event and the sequence that it follows; it returns whether nothing is left."""
        self._plan = plan

    def on_event(self, stored: StoredEvent) -> None:
        """Add a stored event, in the order of the stream."""
        self._events[stored.sequence] = stored
        self._used_bytes += len(stored.body)
        while len(self._events) > self._max_events or self._used_bytes > self._max_bytes:
            self.floor, oldest = self._events.popitem(last=False)
            self._used_bytes -= len(oldest.body)
        after, self.head = self.head, stored.sequence
        if not self._plan(stored, after):
            self.changed.set()

    async def read_after(self, position: int) -> NewEvents:
        """Return some events after a position, in order; a gap if the stream has deleted what follows it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if position >= self.floor:
            newer: list[StoredEvent] = []
            for stored in reversed(self._events.values()):
                if stored.sequence <= position:
                    break
                newer.append(stored)
            return NewEvents(newer[::-1], max(position, self.head))
        floor = self.floor  # events up to it are in the stream; newer ones may be missing on a replica that lags
        found, remaining = await self._store.batch(position, size=_BATCH_EVENTS)
        read_to = found[-1].sequence if found else position
        first = await self._history.first_in_stream()  # last: what is deleted before the read is missing in it
        if 0 < position < first - 1:  # at 0 nothing was planned yet: begin with what the stream has
            return NewEvents([], min(first - 1, floor), is_gap=True)
        return NewEvents(found, read_to if remaining else max(read_to, floor))

    async def read_body(self, sequence: int) -> bytes | None:
        """Return one event's bytes, from the archive if the stream no longer has it; None when it is lost.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, also when the archive does not answer soon.
        """
        if stored := self._events.get(sequence):
            return stored.body
        found, _ = await self._store.batch(sequence - 1, size=1)
        if found and found[0].sequence == sequence:
            return found[0].body
        try:
            async with asyncio.timeout(_ARCHIVE_S):
                event = await self._history.first(sequence - 1, sequence)
            return event.body if event else None
        except TimeoutError:
            message = f"The archive has not answered within {_ARCHIVE_S:.0f} s."
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, message) from None
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            log.warning("webhooks: event %d is not stored any more: %s", sequence, error)
        return None
