"""Choice of the endpoints that get an event. Pure: event, endpoints and the job's own URL are arguments."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from contracts.events.base import decode_at
from contracts.events.job import JobProgressed, JobSubmitted
from contracts.ids import STAGE_PREFIX
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.endpoints.email_addresses import SCHEME
from services.notifier.webhooks.endpoints.endpoint import Endpoint

_ABOUT_ENDPOINTS: Final = "webhook."
#: The only event about webhooks that is delivered by webhook: any other would cause new deliveries without end.
_DISABLED: Final = "webhook.disabled"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class EventSubject:
    """Parsed NATS subject of an event."""

    tenant: str
    noun: str
    subject_id: str
    type: str

    @property
    def of_stage(self) -> bool:
        """Whether it belongs to a stage of a pipeline, whose own events report what matters of it."""
        return self.subject_id.startswith(STAGE_PREFIX)

    @classmethod
    def of(cls, subject: str) -> EventSubject | None:
        """Parse ``saccade.<kind>.<tenant>.<noun>.<id>.<past_tense>``; return None for any other subject."""
        parts = subject.split(".")
        if len(parts) != 6:
            return None
        _, _, tenant, noun, subject_id, verb = parts
        return cls(tenant, noun, subject_id, f"{noun}.{verb}")


def origin_of(url: str) -> str:
    """Return a URL's origin without its path, which may hold a secret: ``https://host:443``, ``mailto:example.com``."""
    if url.startswith(SCHEME):
        domains = {address.rpartition("@")[2].lower() for address in url.removeprefix(SCHEME).split(",")}
        return SCHEME + ",".join(sorted(domains))
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:  # not a port; nothing can be sent there, and the sender reports it
        port = 0
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    return f"{parts.scheme}://{host}:{port}"


def lane_of_url(tenant: str, url_origin: str) -> str:
    """Return the lane of a job's own URL: jobs of a tenant that name the same receiver share it."""
    return f"{tenant} {url_origin}"


def tenant_of_lane(lane: str) -> str:
    """Return the tenant of a lane of ``lane_of_url``."""
    return lane.partition(" ")[0]


def subscribed_endpoints(subject: EventSubject, sequence: int, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return those of a tenant's endpoints that get a durable event."""
    if subject.type.startswith(_ABOUT_ENDPOINTS) and subject.type != _DISABLED:
        return []
    if subject.of_stage:
        return []
    return [
        endpoint
        for endpoint in endpoints
        if endpoint.active
        and endpoint.tenant == subject.tenant
        and sequence > endpoint.since_sequence
        and endpoint.id != subject.subject_id
        and endpoint.subscribes_to(subject.type)
    ]


def plan_deliveries(
    stored: StoredEvent, subject: EventSubject, endpoints: Iterable[Endpoint], job_url: str | None
) -> list[PlannedDelivery]:
    """Return the deliveries of a durable event: to a tenant's endpoints, and to the URL that its job named.

    Raises:
        ValueError: the event does not belong on its subject.
    """
    receivers = [(endpoint.id, endpoint.id) for endpoint in subscribed_endpoints(subject, stored.sequence, endpoints)]
    if job_url is not None and subject.noun == "job":
        receivers.append((subject.subject_id, lane_of_url(subject.tenant, origin_of(job_url))))
    if not receivers:
        return []
    event_id = decode_at(stored.subject, stored.body).id
    return [
        PlannedDelivery(receiver_id, stored.sequence, subject.tenant, lane, event_id, subject.type, subject.subject_id)
        for receiver_id, lane in receivers
    ]


def plan_for(endpoint: Endpoint, stored: StoredEvent) -> list[PlannedDelivery]:
    """Return the delivery of an event to one endpoint; none for an event that cannot be read."""
    subject = EventSubject.of(stored.subject)
    if subject is None or subject.tenant != endpoint.tenant:
        return []
    try:
        return plan_deliveries(stored, subject, [endpoint], None)
    except ValueError:
        return []


def plan_for_url(url: str, stored: StoredEvent) -> list[PlannedDelivery]:
    """Return the delivery of an event to the URL that its job named; none for an event that cannot be read."""
    subject = EventSubject.of(stored.subject)
    try:
        return plan_deliveries(stored, subject, [], url) if subject else []
    except ValueError:
        return []


def progress_endpoints(subject: EventSubject, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Return those of a tenant's endpoints that get a job's progress: it must be named, ``job.*`` is not enough."""
    if subject.of_stage:
        return []
    return [
        endpoint
        for endpoint in endpoints
        if endpoint.active and endpoint.tenant == subject.tenant and JobProgressed.type in endpoint.types
    ]


def may_name_url(subject: EventSubject) -> bool:
    """Return whether an event may name a URL for its job's events."""
    return subject.type == JobSubmitted.type
