"""Reads a job or session: from the view, or from its own events where the view is behind; waits for its end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from contracts.errors import SaccadeError
from contracts.events import EventData
from services.gateway.aggregates.aggregate_events import VIEW_TIMEOUT_S, AggregateEvents
from services.gateway.aggregates.completion_waiters import CompletionWaiters

#: A read asks the bus for newer events this long, then answers from the view.
_NEWEST_EVENT_TIMEOUT_S: Final = 0.5


class _State(Protocol):
    @property
    def ended(self) -> bool: ...


class _EndingAggregate(Protocol):
    """A job or a session."""

    @property
    def tenant(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def state(self) -> _State: ...


E = TypeVar("E", bound=_EndingAggregate)


class AggregateReader(Generic[E]):
    """Reader of jobs or of sessions. Aggregates of other tenants are reported as not found."""

    def __init__(
        self, events: AggregateEvents[E], from_view: Callable[[str], E | None], waiters: CompletionWaiters
    ) -> None:
        """``from_view`` returns an aggregate as the view has it, given its id."""
        self._events, self._from_view, self._waiters = events, from_view, waiters

    async def read(self, tenant: str, subject_id: str, wait_s: float = 0) -> E:
        """Return an aggregate that includes every event stored before this call, if the bus answers.

        Raises:
            SaccadeError: not found.
        """
        found = await self.get(tenant, subject_id, wait_s)
        if found.state.ended:
            return found
        try:
            newest = await self._events.store.load(
                self._events.subjects(tenant, subject_id), deadline_s=_NEWEST_EVENT_TIMEOUT_S
            )
        except SaccadeError:
            return found  # a slightly old answer is better than none while the bus is down
        if newest and newest[-1].sequence > found.sequence:
            await self._events.tail.wait_for(newest[-1].sequence, VIEW_TIMEOUT_S)
        return self._from_view(subject_id) or found

    async def get(self, tenant: str, subject_id: str, wait_s: float = 0) -> E:
        """Return an aggregate as the view has it; with ``wait_s``, when it has ended or after that many seconds.

        Raises:
            SaccadeError: not found.
        """
        found = await self.find(tenant, subject_id) if self._events.is_valid_id(subject_id) else None
        if found is None:
            raise SaccadeError(self._events.not_found)
        if wait_s and not found.state.ended:
            await self._waiters.wait(subject_id, wait_s)
            found = self._from_view(subject_id) or found
        return found

    async def find(self, tenant: str, subject_id: str) -> E | None:
        """Return a tenant's aggregate from the view, else from the bus; None if there is none."""
        found = self._from_view(subject_id) or await self._events.load(tenant, subject_id)
        return found if found is not None and found.tenant == tenant else None

    async def decide(
        self,
        tenant: str,
        subject_id: str,
        decision: Callable[[E], EventData | None],
        event_id: str | None = None,
        *,
        archived: SaccadeError | None = None,
    ) -> E:
        """Change an aggregate as ``AggregateEvents.decide`` does, and return it as the newest source has it."""
        decided = await self._events.decide(tenant, subject_id, decision, event_id, archived=archived)
        return self.newest(subject_id, decided)

    def newest(self, subject_id: str, known: E) -> E:
        """Return an aggregate as the view has it, unless ``known`` is newer than that."""
        viewed = self._from_view(subject_id)
        return viewed if viewed is not None and viewed.sequence >= known.sequence else known
