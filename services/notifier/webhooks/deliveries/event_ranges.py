"""Ranges of stored events: those of an endpoint, those that a user wants to be sent again, and the jobs with URLs.

What the stream has deleted is read from its archive; what is stored nowhere is left out, and logged.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from datetime import datetime

from contracts.errors import UNREADABLE_EVENTS, SaccadeError
from contracts.events.base import DURABLE, subject_of
from contracts.events.delivery import WebhookRedeliveryRequested
from kit.bus.event_store import EventStore, StoredEvent
from kit.history.history import History
from kit.history.older_events import as_stored
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.deliveries.planner import plan_for
from services.notifier.webhooks.endpoints.endpoint import Endpoint

log = logging.getLogger(__name__)

_SUBMISSIONS = subject_of(DURABLE, "*", "job", "*", "submitted")


class EventRanges:
    """Reads the stream of events and its archive."""

    def __init__(self, events: EventStore, history: History) -> None:
        """Read from ``events``, and what it has deleted from ``history``."""
        self._events, self._history = events, history

    async def of_tenant(self, tenant: str, after: int, until: int) -> AsyncIterator[StoredEvent]:
        """Yield a tenant's events after a sequence and up to another.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        async for stored in self._read(after, until, f"saccade.evt.{tenant}.>"):
            yield stored

    async def of_all(self, after: int, until: int) -> AsyncGenerator[StoredEvent, None]:
        """Yield the events of all tenants after a sequence and up to another.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        async for stored in self._read(after, until, ">"):
            yield stored

    async def of_job(self, tenant: str, job_id: str, after: int, until: int) -> AsyncGenerator[StoredEvent, None]:
        """Yield a job's events after a sequence and up to another.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        async for stored in self._read(after, until, subject_of(DURABLE, tenant, "job", job_id, "*")):
            yield stored

    async def first_in_stream(self) -> int:
        """Return the first sequence that the stream still has; one more than the last if there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self._history.first_in_stream()

    async def since_creation(self, endpoint: Endpoint, until: int) -> AsyncGenerator[StoredEvent, None]:
        """Yield the events after an endpoint's creation and up to a sequence.

        One that was made for a stream that is lost, or before its first event, begins with what the stream has.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        after = endpoint.since_sequence or await self._history.first_in_stream() - 1
        async for stored in self.of_tenant(endpoint.tenant, after, until):
            yield stored

    async def submissions(self, planned: int, since: datetime | None) -> AsyncGenerator[StoredEvent, None]:
        """Yield the submissions of jobs that an empty projection needs and does not plan.

        They are those up to ``planned`` or the stream's beginning, which the stream has or were stored after ``since``;
        without ``since`` only the former.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        first = await self._history.first_in_stream()
        begin = first - 1 if since is None else min(first - 1, await self.sequence_before(since))
        async for stored in self._read(begin, max(planned, first - 1), _SUBMISSIONS):
            yield stored

    async def sequence_before(self, moment: datetime) -> int:
        """Return the last sequence before a time; that before the stream's first event if the archive cannot tell.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        try:
            return await self._history.sequence_before(moment)
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            log.warning("webhooks: the archive cannot be read: %s", error)
            return await self._history.first_in_stream() - 1

    async def _read(self, after: int, until: int, subjects: str) -> AsyncIterator[StoredEvent]:
        while after < until:
            try:
                async with contextlib.aclosing(self._history.read(after, until, (subjects,))) as events:
                    async for event in events:
                        after = event.sequence
                        yield as_stored(event)
            except SaccadeError as error:
                if error.code not in UNREADABLE_EVENTS:
                    raise
                first = int(error.extra.get("first", 0)) or await self._history.first_in_stream()
                first = max(first, after + 2)
                log.warning("webhooks: events %d to %d are left out: %s", after + 1, first - 1, error)
                after = first - 1
            else:
                return

    async def planned(
        self,
        request: WebhookRedeliveryRequested,
        endpoint: Endpoint,
        deliveries: DeliveryTables,
        lineage: EventLineage,
        until: int,
    ) -> AsyncGenerator[PlannedDelivery, None]:
        """Yield the deliveries of a requested redelivery; ``until`` as in ``requested``.

        Those of single events that the stream has deleted are taken from ``deliveries``: the archive is read when they
        are sent, so that it delays no other.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        lost = set(request.sequences or ())
        receiver = replace(endpoint, since_sequence=0, types=() if lost else endpoint.types)
        async for stored in self.requested(request, endpoint.tenant, lineage, until):
            lost.discard(stored.sequence)
            for planned in plan_for(receiver, stored):
                yield planned
        for sequence in sorted(lost):
            known = deliveries.delivery(endpoint.id, sequence)
            if known and lineage.has(request.epoch, sequence):
                yield known

    async def requested(
        self, request: WebhookRedeliveryRequested, tenant: str, lineage: EventLineage, until: int
    ) -> AsyncIterator[StoredEvent]:  # fmt: skip
        """Yield the events of a requested redelivery that are in today's stream.

        ``until`` is the last sequence of a request that names no end.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        epoch = request.epoch
        if request.sequences is None:
            after = lineage.shared(epoch, request.since_sequence or 0)
            end = lineage.shared(epoch, request.until_sequence or until)
            async for stored in self.of_tenant(tenant, after, end):
                yield stored
            return
        for sequence in request.sequences:
            if not lineage.has(epoch, sequence):
                continue
            found, _ = await self._events.batch(sequence - 1, size=1)
            if found and found[0].sequence == sequence:
                yield found[0]
