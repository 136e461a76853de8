"""Deliveries by replays, read from their records in DELIVERIES: no projection has them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.events.base import decode_at, subject_of
from contracts.events.delivery import ReplayDeliveryAttempted
from kit.bus.event_store import EventStore
from services.notifier.webhooks.deliveries.delivery import DeliveryState

_BATCH: Final = 200


@dataclass(frozen=True)
class ReplayedDelivery:
    """The only attempt of a replay to deliver one event."""

    data: ReplayDeliveryAttempted
    at: datetime

    @property
    def state(self) -> DeliveryState:
        """State of the delivery: it is never pending, because it is not tried again."""
        return DeliveryState.DELIVERED if self.data.error is None else DeliveryState.FAILED


def record_subject(tenant: str, replay_id: str) -> str:
    """Return the subject of the records of a replay's attempts."""
    noun, _, verb = ReplayDeliveryAttempted.type.partition(".")
    return subject_of(ReplayDeliveryAttempted.kind, tenant, noun, replay_id, verb)


class ReplayedDeliveries:
    """Reads the records of replays."""

    def __init__(self, records: EventStore) -> None:
        """Read from the store of DELIVERIES."""
        self._records = records

    async def page(
        self, tenant: str, endpoint_id: str, replay_id: str, *, state: DeliveryState | None, limit: int, after: int
    ) -> tuple[list[ReplayedDelivery], int | None]:
        """Return a replay's deliveries after a record, in order, and the record that the next page follows.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found: list[ReplayedDelivery] = []
        remaining = 1
        while remaining:
            batch, remaining = await self._records.batch(after, record_subject(tenant, replay_id), _BATCH)
            for position, stored in enumerate(batch):
                after = stored.sequence
                envelope = decode_at(stored.subject, stored.body)
                delivery = ReplayedDelivery(ReplayDeliveryAttempted.model_validate(envelope.data), envelope.time)
                if delivery.data.endpoint_id == endpoint_id and state in (None, delivery.state):
                    found.append(delivery)
                if len(found) == limit:
                    return found, after if remaining or position + 1 < len(batch) else None
            if not batch:
                break
        return found, None
