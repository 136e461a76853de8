"""Pages of a list as it was: which aggregates existed at a point of the history, newest first, and what they were then.

Read in two steps. Which ones existed does not depend on the point but for its sequence: the view knows their first
events, and where the stream no longer holds those, the archive does. What each one was then is folded only if it has
changed since, from events that are read together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import aggregate
from kit.bus.tail import EventTail
from kit.history.history import Bounds, History
from services.gateway.aggregates.aggregate_events import VIEW_TIMEOUT_S
from services.gateway.time_machine.past_aggregates import Aggregate, PastAggregates
from services.gateway.time_machine.points import Point

#: Aggregates that one request looks at; a page may therefore be short, and have a next one.
_LOOKED_AT: Final = 1000
#: Events of the archive that are searched for first events in one go, and in one request.
_WINDOW: Final = 5_000
_SEARCHED: Final = 250_000


L = TypeVar("L", bound=Aggregate)


@dataclass(frozen=True)
class ListSearch(Generic[L]):
    """Selection of a list."""

    tenant: str
    #: Whether one is in the list, given what it was.
    is_wanted: Callable[[L], bool]
    #: Rows of the view with first events before a sequence, newest first, and where the rest begins.
    rows: Callable[[int, int], tuple[list[L], int | None]]
    limit: int


class PastPages(Generic[L]):
    """Reads pages of one kind of aggregate."""

    def __init__(self, aggregates: PastAggregates[L], history: History, tail: EventTail) -> None:
        """``tail`` feeds the view that ``ListSearch.rows`` reads."""
        self._aggregates, self._history, self._tail = aggregates, history, tail

    async def read(self, search: ListSearch[L], point: Point, before: int | None) -> tuple[list[L], int | None]:
        """Return what was there, newest first, and the value of ``before`` for the next page.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, when the view does not contain the point in time, too.
        """
        if not await self._tail.wait_for(point.sequence, VIEW_TIMEOUT_S):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The list does not contain the newest events yet.")
        bounds = await self._history.bounds()
        before = min(point.sequence + 1, before if before is not None else point.sequence + 1)
        found: list[L] = []
        looked_at = 0
        while before is not None:
            rows, rest = await self._candidates(search, bounds, before)
            for row, was in zip(rows, await self._all_as_of(search.tenant, rows, point, bounds), strict=True):
                looked_at += 1
                if was is not None and search.is_wanted(was):
                    found.append(was)
                if len(found) == search.limit or looked_at == _LOOKED_AT:
                    return found, row.first_sequence
            if not rows and rest is not None and rest < bounds.first_in_stream:
                return found, rest  # a long stretch of the archive without any: the next request goes on from there
            before = rest
        return found, None

    async def _candidates(self, search: ListSearch[L], bounds: Bounds, before: int) -> tuple[list[L], int | None]:
        """Return some that were created before a sequence, newest first, and where to look for the rest."""
        if bounds.first == bounds.first_in_stream:
            return search.rows(before, search.limit)
        if before > bounds.first_in_stream:
            rows, rest = search.rows(before, search.limit)
            rows = [row for row in rows if row.first_sequence >= bounds.first_in_stream]
            # Of older ones the view keeps only what has changed lately; the archive has all.
            more = rest is not None and rest > bounds.first_in_stream
            return rows, rest if more else bounds.first_in_stream
        return await self._archived(search, bounds, before)

    async def _archived(self, search: ListSearch[L], bounds: Bounds, before: int) -> tuple[list[L], int | None]:
        kind = self._aggregates.kind
        first_events = aggregate(search.tenant, kind.noun, "*").removesuffix("*") + kind.begins
        oldest = max(bounds.first, before - _SEARCHED)
        found: list[L] = []
        while before > oldest and len(found) < search.limit:
            after = max(oldest, before - _WINDOW) - 1
            events = [event async for event in self._history.read(after, before - 1, [first_events])]
            begun = (self._aggregates.fold([event]) for event in reversed(events))
            found += [first for first in begun if first is not None]
            before = after + 1
        return found, before if before > bounds.first else None

    async def _all_as_of(self, tenant: str, rows: Sequence[L], point: Point, bounds: Bounds) -> list[L | None]:
        """Return what each one was; None of those whose history is not stored any more.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        known = {row.id: self._aggregates.kind.from_view(row.id) for row in rows}
        unchanged = {row_id: found for row_id, found in known.items() if found and found.sequence <= point.sequence}
        begins = {
            row.id: row.first_sequence - 1
            for row in rows
            if row.id not in unchanged and row.first_sequence >= bounds.first
        }
        found = await self._aggregates.find_all(tenant, begins, point) if begins else {}
        return [unchanged.get(row.id) or found.get(row.id) for row in rows]
