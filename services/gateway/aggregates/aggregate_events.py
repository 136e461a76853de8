"""Events of one kind of aggregate on the bus: load and fold them, append the next one on condition."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, decode, encode
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from services.gateway.aggregates.tenant_use import TenantUse

log = logging.getLogger(__name__)

#: CloudEvents source of every event that the gateway publishes.
SOURCE: Final = "/gateway"
#: A request waits this long for the view to contain the event that it has published.
VIEW_TIMEOUT_S: Final = 2.0
#: Attempts of a read-decide-append cycle that other writers interrupt.
_CONFLICT_RETRIES: Final = 50


class _Aggregate(Protocol):
    """Fields that jobs, sessions and uploads have in common."""

    @property
    def tenant(self) -> str: ...
    @property
    def sequence(self) -> int: ...


A = TypeVar("A", bound=_Aggregate)


class AggregateEvents(Generic[A]):
    """The events of all aggregates of one kind. An append succeeds only if no other event came in between."""

    def __init__(
        self,
        noun: str,
        not_found: ErrorCode,
        *,
        is_valid_id: Callable[[str], bool],
        fold_stored: Callable[[A | None, str, bytes, int], A | None],
        store: EventStore,
        tail: EventTail,
        idempotency: Idempotency,
        use: TenantUse,
        from_view: Callable[[str], A | None],
    ) -> None:
        """``fold_stored`` applies an event, given its subject, body and sequence, to the aggregate so far.

        ``from_view`` returns an aggregate as the view has it, for those whose first events the stream has deleted.
        """
        self._use, self._from_view = use, from_view
        self.noun, self.not_found, self.is_valid_id = noun, not_found, is_valid_id
        self.store, self.tail = store, tail
        self._fold_stored = fold_stored
        self._idempotency = idempotency

    def subjects(self, tenant: str, subject_id: str) -> str:
        """Return the subject filter of an aggregate's events."""
        return aggregate(tenant, self.noun, subject_id)

    async def load(self, tenant: str, subject_id: str) -> A | None:
        """Return the aggregate as the bus has it now; None if it has no events.

        One whose first events the stream has deleted is returned as the view has it, which has folded them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found, newest = await self._load_stored(tenant, subject_id)
        return found if found is not None else await self._viewed(tenant, subject_id, newest)

    async def _load_stored(self, tenant: str, subject_id: str) -> tuple[A | None, int]:
        """Return the aggregate if the stream has it whole, and the sequence of its newest event there, or 0.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found: A | None = None
        events = await self.store.load(self.subjects(tenant, subject_id))
        for stored in events:
            found = self._fold_stored(found, stored.subject, stored.body, stored.sequence)
        return found, events[-1].sequence if events else 0

    async def _viewed(self, tenant: str, subject_id: str, newest: int) -> A | None:
        """Return the aggregate as the view has it, which has folded ``newest`` if that is possible in time."""
        await self.tail.wait_for(newest, VIEW_TIMEOUT_S)
        viewed = self._from_view(subject_id)
        return viewed if viewed is not None and viewed.tenant == tenant else None

    async def load_existing(self, tenant: str, subject_id: str) -> A:
        """Return the aggregate as the bus has it now.

        Raises:
            SaccadeError: there is none with this id; BUS_UNAVAILABLE.
        """
        found = await self.load(tenant, subject_id) if self.is_valid_id(subject_id) else None
        if found is None:
            raise SaccadeError(self.not_found)
        return found

    async def has_event(self, tenant: str, subject_id: str, event_id: str) -> bool:
        """Return whether an aggregate has an event with this id.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stored = await self.store.load(self.subjects(tenant, subject_id))
        return any(decode(event.body).id == event_id for event in stored)

    async def append(
        self, tenant: str, subject_id: str, data: EventData, *, after: int, event_id: str | None = None
    ) -> int:
        """Store the next event of an aggregate, wait until the view contains it, and return its sequence.

        Raises:
            Conflict: the newest event of the aggregate is not the one with sequence ``after``.
            SaccadeError: BUS_UNAVAILABLE.
        """
        message = encode(data, tenant=tenant, subject_id=subject_id, source=SOURCE, event_id=event_id)
        sequence = await self.store.publish(
            message, after=after, among=self.subjects(tenant, subject_id), known_until=self.tail.last
        )
        await self.tail.wait_for(sequence, VIEW_TIMEOUT_S)
        return sequence

    async def append_once(
        self, tenant: str, subject_id: str, data: EventData, *, after: int, verb: str | None = None
    ) -> int:
        """Append an event that an aggregate has at most once: its id is made of the aggregate's id and its verb.

        Raises:
            Conflict, SaccadeError: as ``append``.
        """
        event_id = f"{subject_id}.{verb or data.type.partition('.')[2]}"
        return await self.append(tenant, subject_id, data, after=after, event_id=event_id)

    async def create(
        self,
        tenant: str,
        new_id: str,
        key: IdempotencyKey | None,
        first_event: Callable[[], Awaitable[EventData]],
    ) -> str:
        """Store an aggregate's first event and return its id: ``new_id``, or the id that ``key`` already stands for.

        Raises:
            SaccadeError: from ``first_event``; IDEMPOTENCY_KEY_REUSED; RATE_LIMITED; BUS_UNAVAILABLE.
        """
        subject_id = await self._idempotency.recall(key) if key else None
        if subject_id and await self.load(tenant, subject_id):
            return subject_id
        data = await first_event()
        self._use.count_event(tenant)
        if subject_id is None:
            subject_id = await self._idempotency.claim(key, new_id) if key else new_id
        try:
            await self.append_once(tenant, subject_id, data, after=0)
        except Conflict:
            log.info("%s was created by a concurrent request with the same Idempotency-Key", subject_id)
        return subject_id

    async def decide(
        self,
        tenant: str,
        subject_id: str,
        decision: Callable[[A], EventData | None],
        event_id: str | None = None,
        *,
        archived: SaccadeError | None = None,
    ) -> A:
        """Append the event that ``decision`` returns, and read and decide again whenever another writer was first.

        With ``event_id``, the event has this id: who repeats the call can see whether it was stored. ``archived`` is
        raised for an aggregate that the stream has not whole any more; without it, such a one is changed as any other.

        Returns the aggregate with the event applied; unchanged if the decision returned None.

        Raises:
            SaccadeError: not found; ``archived``; from ``decision``; RATE_LIMITED; BUS_UNAVAILABLE, also after too many
                conflicts.
        """
        counted = False
        for _ in range(_CONFLICT_RETRIES):
            current, newest = await self._load_stored(tenant, subject_id) if self.is_valid_id(subject_id) else (None, 0)
            known_until = 0
            if current is None:
                known_until = self.tail.last  # before the view is read: the view has folded that much
                current = await self._viewed(tenant, subject_id, newest) if self.is_valid_id(subject_id) else None
            if current is None:
                raise SaccadeError(self.not_found)
            data = decision(current)
            if data is None:
                return current
            if known_until and archived is not None:
                raise archived
            if not counted:
                self._use.count_event(tenant)
                counted = True
            message = encode(data, tenant=tenant, subject_id=subject_id, source=SOURCE, event_id=event_id)
            try:
                sequence = await self.store.publish(
                    message,
                    after=current.sequence,
                    among=self.subjects(tenant, subject_id),
                    known_until=known_until,
                )
            except Conflict:
                continue
            await self.tail.wait_for(sequence, VIEW_TIMEOUT_S)
            return self._fold_stored(current, message.subject, message.body, sequence) or current
        raise SaccadeError(
            ErrorCode.BUS_UNAVAILABLE, f"Too many other requests changed the {self.noun} at the same time."
        )
