"""Aggregates as they were: the fold of their events up to a point of the history."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import aggregate
from kit.bus.event_store import TooManyResults
from kit.bus.tail import EventTail
from kit.history.event_lines import HistoryEvent
from kit.history.history import History
from services.gateway.aggregates.aggregate_events import VIEW_TIMEOUT_S
from services.gateway.aggregates.own_events import events_of_id
from services.gateway.time_machine.points import Point

#: Aggregates whose newest events one request reads: it answers with at most 1,024.
_AT_ONCE: Final = 50


class Aggregate(Protocol):
    """Fields that a job and a session have in common."""

    @property
    def id(self) -> str:
        """Id with its prefix."""

    @property
    def tenant(self) -> str:
        """Tenant that it belongs to."""

    @property
    def sequence(self) -> int:
        """Sequence of its newest event."""

    @property
    def first_sequence(self) -> int:
        """Sequence of its first event."""


A = TypeVar("A", bound=Aggregate)


@dataclass(frozen=True)
class AggregateKind(Generic[A]):
    """Properties of the aggregates of one noun."""

    noun: str
    #: Verb of the first event of each: ``submitted``.
    begins: str
    not_found: ErrorCode
    is_valid_id: Callable[[str], bool]
    #: Applies an event, given its subject, body and sequence, to the aggregate so far.
    fold_stored: Callable[[A | None, str, bytes, int], A | None]
    #: Folds the newest events of each type; returns None where the fold of all events may differ. None: it always may.
    fold_newest: Callable[[Sequence[HistoryEvent]], A | None] | None
    #: The aggregate as the view has it now; the view folds as ``fold_stored`` does.
    from_view: Callable[[str], A | None]


class PastAggregates(Generic[A]):
    """Aggregates of one kind at points of the history. Those of other tenants are reported as not found."""

    def __init__(self, kind: AggregateKind[A], history: History, tail: EventTail) -> None:
        """``tail`` follows the stream and feeds the view of ``kind``."""
        self.kind = kind
        self._history, self._tail = history, tail

    async def read(self, tenant: str, subject_id: str, point: Point) -> A:
        """Return an aggregate as it was.

        Raises:
            SaccadeError: not found; NOT_CREATED_YET; HISTORY_EXPIRED; BUS_UNAVAILABLE.
        """
        if not self.kind.is_valid_id(subject_id):
            raise SaccadeError(self.kind.not_found)
        found = await self.find(tenant, subject_id, point)
        return found if found is not None else await self._explain_missing(tenant, subject_id)

    async def find(self, tenant: str, subject_id: str, point: Point, begins: int | None = None) -> A | None:
        """Return an aggregate as it was; None if it did not exist, or its first event is not stored any more.

        ``begins`` is a sequence after which all of its events are, where that is known.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if (known := await self._unchanged_since(tenant, subject_id, point)) is not None:
            return known
        if begins is None and (known := self.kind.from_view(subject_id)) is not None and known.tenant == tenant:
            begins = known.first_sequence - 1
        if begins is not None:
            return (await self.find_all(tenant, {subject_id: begins}, point)).get(subject_id)
        return self.fold(await self.events(tenant, subject_id, 0, point.sequence))

    async def find_all(self, tenant: str, begins: Mapping[str, int], point: Point) -> dict[str, A]:
        """Return those of several aggregates that existed, as they were, by id.

        ``begins`` has of each a sequence after which all of its events are. Those whose first event is not stored any
        more are left out.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        found: dict[str, A] = {}
        wanted = dict(begins)
        is_view_current = await self._tail.wait_for(point.sequence, VIEW_TIMEOUT_S)
        for subject_id in begins:
            known = self.kind.from_view(subject_id)
            if known is None or known.tenant != tenant:
                continue
            wanted[subject_id] = max(wanted[subject_id], known.first_sequence - 1)
            if is_view_current and known.sequence <= point.sequence:
                found[subject_id] = known
                del wanted[subject_id]
        folded = await self._from_newest(tenant, wanted, point)
        subjects = {
            aggregate(tenant, self.kind.noun, subject_id): after
            for subject_id, after in wanted.items()
            if subject_id not in folded and after < point.sequence
        }
        by_id: dict[str, list[HistoryEvent]] = {}
        for event in await self._history.read_each(subjects, point.sequence) if subjects else ():
            by_id.setdefault(event.subject_id, []).append(event)
        folded |= {subject_id: self.fold(events) for subject_id, events in by_id.items()}
        return found | {subject_id: was for subject_id, was in folded.items() if was is not None}

    async def _from_newest(self, tenant: str, begins: Mapping[str, int], point: Point) -> dict[str, A | None]:
        """Return those aggregates that are the fold of their newest events of each type; None of those without events.

        One request reads these events of many aggregates; all events take one for each.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if self.kind.fold_newest is None or not begins:
            return {}
        first = await self._history.first_in_stream()
        asked = [subject_id for subject_id, after in begins.items() if first - 1 <= after < point.sequence]
        found: dict[str, A | None] = {}
        for start in range(0, len(asked), _AT_ONCE):
            some = asked[start : start + _AT_ONCE]
            subjects = [aggregate(tenant, self.kind.noun, subject_id) for subject_id in some]
            try:
                newest = await self._history.newest(subjects, point.sequence)
            except TooManyResults:
                newest = None
            if newest is None:
                continue
            by_id: dict[str, list[HistoryEvent]] = {subject_id: [] for subject_id in some}
            for event in newest:
                by_id[event.subject_id].append(event)
            for subject_id, events in by_id.items():
                was = self.kind.fold_newest(events) if events else None
                if was is not None or not events:
                    found[subject_id] = was
        return found

    async def events(
        self, tenant: str, subject_id: str, after: int, until: int, begins: int | None = None
    ) -> list[HistoryEvent]:
        """Return the events of an aggregate after a sequence and up to another, in order; ``begins`` as for ``find``.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        subjects = [aggregate(tenant, self.kind.noun, subject_id)]
        known = self.kind.from_view(subject_id)
        if known is not None and known.tenant == tenant:
            begins = known.first_sequence - 1
        if begins is not None:
            after = max(after, begins)
            return [event async for event in self._history.read(after, until, subjects)]
        return await events_of_id(self._history, subjects, subject_id, after, until)

    def fold(self, events: list[HistoryEvent], found: A | None = None) -> A | None:
        """Apply events; those that nobody could read are left out, as the view leaves them out."""
        for event in events:
            try:
                found = self.kind.fold_stored(found, event.subject, event.body, event.sequence)
            except ValueError:
                continue
        return found

    async def _unchanged_since(self, tenant: str, subject_id: str, point: Point) -> A | None:
        """Return an aggregate from the view, if it has not changed since a point."""
        found = self.kind.from_view(subject_id)
        if found is None or found.tenant != tenant or found.sequence > point.sequence:
            return None
        if not await self._tail.wait_for(point.sequence, VIEW_TIMEOUT_S):
            return None
        found = self.kind.from_view(subject_id)
        return found if found is not None and found.sequence <= point.sequence else None

    async def _explain_missing(self, tenant: str, subject_id: str) -> A:
        """Raise why an aggregate cannot be shown.

        Raises:
            SaccadeError: not found; NOT_CREATED_YET; HISTORY_EXPIRED; BUS_UNAVAILABLE.
        """
        noun, bounds = self.kind.noun, await self._history.bounds()
        events = await self.events(tenant, subject_id, 0, bounds.last)
        if not events and not self._is_known(tenant, subject_id):
            raise SaccadeError(self.kind.not_found)
        if not events or events[0].subject.rpartition(".")[2] != self.kind.begins:
            message, hint = f"The first events of the {noun} are not stored any more.", f"Read the {noun} as it is now."
            raise SaccadeError(ErrorCode.HISTORY_EXPIRED, message, hint=hint)
        created_at = events[0].time
        message = f"The {noun} did not exist yet: it was created at {created_at.isoformat(timespec='milliseconds')}."
        raise SaccadeError(ErrorCode.NOT_CREATED_YET, message, created_at=created_at.isoformat())

    def _is_known(self, tenant: str, subject_id: str) -> bool:
        found = self.kind.from_view(subject_id)
        return found is not None and found.tenant == tenant
