"""Events whose deliveries are being planned: in order for each tenant, in pieces, by turns for the tenants.

An event of a tenant with a hundred endpoints takes 10 ms to plan; the events of others do not wait for its end. Pure.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from contracts.audit import SYSTEM
from contracts.limits import MIB
from kit.bus.event_store import StoredEvent
from services.notifier.tenant_turns import TenantTurns

#: Deliveries that are planned at once: half a millisecond.
PIECE_DELIVERIES: Final = 10
#: Events of few deliveries that are planned at once.
_EVENTS_AT_ONCE: Final = 8
#: Events, and bytes of them, beyond which no further ones should be added: the events of all tenants wait then. One
#: tenant at every quota plans more slowly than its events arrive for a while, so it is far above what is usual.
_MOST: Final = 20_000
_MOST_BYTES: Final = 16 * MIB

#: Plans an event: each ``next`` plans ``PIECE_DELIVERIES`` deliveries, the last one what is left.
Planning = Callable[[StoredEvent], Iterator[None]]
_LAST: Final = object()


class _Waiting(NamedTuple):
    """An event, and what is left to plan of it."""

    sequence: int
    size_bytes: int
    pieces: Iterator[None]


class PlanningTurns:
    """Events that are not planned to their end yet."""

    def __init__(self, planning: Planning) -> None:
        """``planning`` begins to plan an event when its turn comes."""
        self._planning = planning
        self._turns = TenantTurns[_Waiting]()
        #: An erasure, which stands between the events before it and those after it, and all that came after it.
        self._behind: deque[StoredEvent] = deque()
        self._size_bytes = 0

    def __len__(self) -> int:
        """Return their number."""
        return len(self._turns) + len(self._behind)

    @property
    def has_room(self) -> bool:
        """Whether further events may be added."""
        return len(self) < _MOST and self._size_bytes < _MOST_BYTES

    def planned(self, read_to: int) -> int:
        """Return the sequence up to which all is planned, if all events up to ``read_to`` were added."""
        firsts = [event.sequence for event in self._turns.firsts()]
        firsts += [self._behind[0].sequence] if self._behind else []
        return min(firsts, default=read_to + 1) - 1

    def put(self, stored: StoredEvent) -> None:
        """Add an event, behind the earlier ones of its tenant."""
        self._size_bytes += len(stored.body)
        self._behind.append(stored)
        self._release()

    def step(self) -> bool:
        """Plan a piece of an event with many deliveries, and some events with few.

        Return whether an event has further pieces, between which others should find the loop idle.
        """
        self._release()
        for _ in range(_EVENTS_AT_ONCE):
            if not self._turns:
                return False
            if not self._turns.step(self._plan_piece):
                for _ in range(min(self._turns.tenants - 1, _EVENTS_AT_ONCE)):
                    self._turns.step(self._plan_piece)
                return True
        return False

    def step_of(self, tenant: str) -> None:
        """Plan a piece of a tenant's event before all others, if it is the tenant's only one."""
        works = self._turns.of(tenant)
        if works is not None and len(works) == 1 and not self._behind:
            self._turns.step_of(tenant, self._plan_piece)

    def _release(self) -> None:
        """Add what waits behind an erasure, once all before that is planned, and the erasure too."""
        while self._behind:
            tenant = self._behind[0].subject.split(".", 3)[2]
            if tenant == SYSTEM and self._turns:
                return
            stored = self._behind.popleft()
            self._turns.put(tenant, _Waiting(stored.sequence, len(stored.body), self._planning(stored)))
            while tenant == SYSTEM and self._turns:
                self._turns.step(self._plan_piece)

    def _plan_piece(self, event: _Waiting) -> bool:
        """Plan some deliveries of an event; return whether that was to its end."""
        is_last = True
        try:
            is_last = next(event.pieces, _LAST) is _LAST
        finally:
            if is_last:
                self._size_bytes -= event.size_bytes
        return is_last
