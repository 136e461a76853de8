"""A delivery: one event for one endpoint, its attempts, and an endpoint's run of failures. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DeliveryState(StrEnum):
    """State of the delivery of one event to one endpoint."""

    PENDING = "pending"
    DELIVERED = "delivered"
    #: The last attempt of the retry schedule failed.
    FAILED = "failed"
    #: Will not be sent: its endpoint was disabled or deleted first, or the event is past retention.
    CANCELLED = "cancelled"


@dataclass(frozen=True)
class PlannedDelivery:
    """An event that has to go to an endpoint; the ``lane`` is its queue, shared by deliveries to one receiver."""

    endpoint_id: str
    sequence: int
    tenant: str
    lane: str
    event_id: str
    event_type: str
    event_subject: str

    @property
    def key(self) -> tuple[str, int]:
        """Key of the delivery: endpoint and event."""
        return self.endpoint_id, self.sequence


@dataclass(frozen=True)
class TrackedDelivery(PlannedDelivery):
    """A delivery with its progress; ``due`` is the earliest time of the next attempt."""

    state: DeliveryState
    attempts: int
    #: Attempts made before the retry schedule started (again, after a redelivery).
    scheduled_from: int
    due: datetime
    last_status: int | None
    last_error: str | None
    updated_at: datetime


@dataclass(frozen=True)
class DeliveryAttempt:
    """Outcome of one attempt; ``record`` is its sequence in DELIVERIES."""

    attempt: int
    record: int
    at: datetime
    status: int | None
    error: str | None
    latency_ms: float
    response_excerpt: str
    next_attempt_at: datetime | None
    url_origin: str
    #: Time and text of the request's signature; None for an e-mail, and in records of an earlier version.
    signed_at: int | None = None
    signature: str | None = None


@dataclass(frozen=True)
class FailureRun:
    """Consecutive failures of an endpoint since its last success; ``gone``: it answered 410."""

    endpoint_id: str
    tenant: str
    failing_since: datetime
    failed_at: datetime
    status: int | None
    gone: bool
