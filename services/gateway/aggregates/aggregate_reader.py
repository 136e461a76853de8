"""How one job or session is read: from the view, from its own events where the view is behind, waiting if asked to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import aggregate
from kit.bus.event_store import EventStore
from kit.bus.tail import EventTail
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.uploads.service import SEEN_S

#: How long a read asks the bus for something newer before it answers with what is known.
_LOOK_S: Final = 0.5


class _State(Protocol):
    @property
    def ended(self) -> bool: ...


class _Aggregate(Protocol):
    @property
    def tenant(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def state(self) -> _State: ...


T = TypeVar("T", bound=_Aggregate)


class AggregateReader(Generic[T]):
    """Reads the things of one kind."""

    def __init__(
        self,
        noun: str,
        unknown: ErrorCode,
        *,
        is_one: Callable[[str], bool],
        viewed: Callable[[str], T | None],
        load: Callable[[str, str], Awaitable[T | None]],
        store: EventStore,
        tail: EventTail,
        waiting: CompletionWaiters,
    ) -> None:
        """``is_one`` knows ids, ``viewed`` gives what the view has by its id, ``load`` folds a tenant's events."""
        self._noun, self._is_one, self._unknown = noun, is_one, unknown
        self._viewed, self._load = viewed, load
        self._store, self._tail, self._waiting = store, tail, waiting

    async def read(self, tenant: str, wanted: str, wait_s: float = 0) -> T:
        """Give it as it is now: whoever was told of an event elsewhere finds it here.

        Raises:
            SaccadeError: it is unknown, or another tenant's.
        """
        found = await self.get(tenant, wanted, wait_s)
        if found.state.ended:
            return found
        try:
            newest = await self._store.load(aggregate(tenant, self._noun, wanted), deadline_s=_LOOK_S)
        except SaccadeError:
            return found  # without the bus, what is known is better than nothing
        if newest and newest[-1].sequence > found.sequence:
            await self._tail.wait_for(newest[-1].sequence, SEEN_S)
        return self._viewed(wanted) or found

    async def get(self, tenant: str, wanted: str, wait_s: float = 0) -> T:
        """Give it as the view has it; with ``wait_s`` when it has ended, or after that time.

        Raises:
            SaccadeError: it is unknown, or another tenant's.
        """
        if not self._is_one(wanted):
            raise SaccadeError(self._unknown)
        found = self._viewed(wanted) or await self._load(tenant, wanted)
        if found is None or found.tenant != tenant:
            raise SaccadeError(self._unknown)
        if wait_s and not found.state.ended:
            await self._waiting.until_ended(wanted, wait_s)
            found = self._viewed(wanted) or found
        return found
