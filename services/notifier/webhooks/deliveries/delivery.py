"""What a delivery is: one event on its way to one endpoint, its attempts, and an endpoint's run of failures. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DeliveryState(StrEnum):
    """Where the delivery of one event to one endpoint stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    #: Given up after its last attempt.
    FAILED = "failed"
    #: Never to be sent: its endpoint was disabled or deleted first, or the event is past retention.
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class Planned:
    """That an event is to go to an endpoint. The ``lane`` is what it queues in: deliveries that share a receiver."""

    endpoint_id: str
    sequence: int
    tenant: str
    lane: str
    event_id: str
    event_type: str
    event_subject: str

    @property
    def key(self) -> tuple[str, int]:
        """Name the delivery: endpoint and event."""
        return self.endpoint_id, self.sequence


@dataclass(frozen=True)
class Delivery(Planned):
    """How the delivery of one event to one endpoint stands. ``due`` is when the next attempt may be made."""

    state: DeliveryState
    attempts: int
    #: Attempts made before the schedule of retries began (anew, by a redelivery).
    scheduled_from: int
    due: datetime
    last_status: int | None
    last_error: str | None
    updated_at: datetime


@dataclass(frozen=True)
class Attempt:
    """How one attempt went; ``record`` is its sequence in DELIVERIES."""

    attempt: int
    record: int
    at: datetime
    status: int | None
    error: str | None
    latency_ms: float
    response_excerpt: str
    next_attempt_at: datetime | None
    url_origin: str


@dataclass(frozen=True)
class Health:
    """An endpoint that has only failed since a moment; ``gone``: it answered 410."""

    endpoint_id: str
    tenant: str
    failing_since: datetime
    failed_at: datetime
    status: int | None
    gone: bool
