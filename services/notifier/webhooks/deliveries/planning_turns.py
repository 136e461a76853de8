"""Events whose deliveries are being planned: in order for each tenant, in pieces, by turns for the tenants.

An event of a tenant with a hundred endpoints takes 10 ms to plan; the events of others do not wait for its end. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from contracts.audit import SYSTEM
from kit.bus.event_store import StoredEvent
from services.notifier.tenant_turns import TenantTurns

#: Deliveries that are planned at once.
PIECE_DELIVERIES: Final = 4
#: Events of few deliveries that are planned at once.
_EVENTS_AT_ONCE: Final = 8
#: Events beyond which no further ones should be added.
_MOST: Final = 500

#: Plans an event: each ``next`` plans one delivery.
Planning = Callable[[StoredEvent], Iterable[None]]


class PlanningTurns:
    """Events that are not planned to their end yet."""

    def __init__(self, planning: Planning) -> None:
        """``planning`` begins to plan an event when its turn comes."""
        self._planning = planning
        #: Sequences of events, and what is left to plan of them.
        self._turns = TenantTurns[tuple[int, Iterator[None]]]()

    def __len__(self) -> int:
        """Return their number."""
        return len(self._turns)

    @property
    def has_room(self) -> bool:
        """Whether further events may be added."""
        return len(self) < _MOST

    def planned(self, read_to: int) -> int:
        """Return the sequence up to which all is planned, if all events up to ``read_to`` were added."""
        return min((sequence - 1 for sequence, _ in self._turns.firsts()), default=read_to)

    def put(self, stored: StoredEvent) -> None:
        """Add an event, behind the earlier ones of its tenant."""
        tenant = stored.subject.split(".", 3)[2]
        if tenant == SYSTEM:  # an erasure stands between the events before it and those after it
            self._finish()
        self._turns.put(tenant, (stored.sequence, iter(self._planning(stored))))
        if tenant == SYSTEM:
            self._finish()

    def step(self) -> None:
        """Plan a piece of an event with many deliveries, or some events with few."""
        for _ in range(_EVENTS_AT_ONCE):
            if not self._turns or not self._turns.step(_plan_piece):
                return

    def _finish(self) -> None:
        while self._turns:
            self._turns.step(_plan_piece)


def _plan_piece(event: tuple[int, Iterator[None]]) -> bool:
    """Plan some deliveries of an event; return whether that was to its end."""
    return sum(1 for _ in islice(event[1], PIECE_DELIVERIES)) < PIECE_DELIVERIES
