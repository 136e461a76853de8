"""Ranges of a tenant's stored events: those of an endpoint, and those that a user wants to be sent again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from contracts.events.delivery import WebhookRedeliveryRequested
from kit.bus.event_store import EventStore, StoredEvent
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.event_lineage import EventLineage
from services.notifier.webhooks.deliveries.planner import plan_for
from services.notifier.webhooks.endpoints.endpoint import Endpoint


class EventRanges:
    """Reads the stream of events."""

    def __init__(self, events: EventStore) -> None:
        """Read from ``events``."""
        self._events = events

    async def of_tenant(self, tenant: str, after: int, until: int) -> AsyncIterator[StoredEvent]:
        """Yield a tenant's events after a sequence and up to another.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async for stored in self._events.history(after, f"saccade.evt.{tenant}.>"):
            if stored.sequence > until:
                return
            yield stored

    async def planned(
        self,
        requested: WebhookRedeliveryRequested,
        endpoint: Endpoint,
        deliveries: DeliveryTables,
        lineage: EventLineage,
        until: int,
    ) -> AsyncIterator[PlannedDelivery]:
        """Yield the deliveries of a requested redelivery; ``until`` as ``planned`` in ``requested``.

        Those of single events that the stream has deleted are taken from ``deliveries``: the archive is read when they
        are sent, so that it delays no other.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        lost = set(requested.sequences or ())
        receiver = replace(endpoint, since_sequence=0, types=() if lost else endpoint.types)
        async for stored in self.requested(requested, endpoint.tenant, lineage, until):
            lost.discard(stored.sequence)
            for planned in plan_for(receiver, stored):
                yield planned
        for sequence in sorted(lost):
            known = deliveries.delivery(endpoint.id, sequence)
            if known and lineage.has(requested.epoch, sequence):
                yield known

    async def requested(
        self, requested: WebhookRedeliveryRequested, tenant: str, lineage: EventLineage, planned: int
    ) -> AsyncIterator[StoredEvent]:  # fmt: skip
        """Yield the events of a requested redelivery that are in today's stream; ``planned`` is the end without one.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        epoch = requested.epoch
        if requested.sequences is None:
            after = lineage.shared(epoch, requested.since_sequence or 0)
            until = lineage.shared(epoch, requested.until_sequence or planned)
            async for stored in self.of_tenant(tenant, after, until):
                yield stored
            return
        for sequence in requested.sequences:
            if not lineage.has(epoch, sequence):
                continue
            found, _ = await self._events.batch(sequence - 1, size=1)
            if found and found[0].sequence == sequence:
                yield found[0]
