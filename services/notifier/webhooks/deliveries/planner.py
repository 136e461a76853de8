"""Which endpoints get an event. Pure: the event, the tenant's endpoints and the job's own URL are given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from contracts.events.base import decode_at
from contracts.events.job import JobProgressed, JobSubmitted
from contracts.ids import STAGE_PREFIX
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.delivery import Planned
from services.notifier.webhooks.endpoints.endpoint import Endpoint

_ABOUT_ENDPOINTS: Final = "webhook."
#: The only thing about webhooks that webhooks tell: all else would make new ones without an end.
_DISABLED: Final = "webhook.disabled"
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Subject:
    """Where an event belongs, as its NATS subject says."""

    tenant: str
    noun: str
    subject_id: str
    type: str

    @property
    def of_stage(self) -> bool:
        """Tell whether it is of a pipeline's stage, of which the pipeline itself says what matters."""
        return self.subject_id.startswith(STAGE_PREFIX)

    @classmethod
    def of(cls, subject: str) -> Subject | None:
        """Read ``saccade.<kind>.<tenant>.<noun>.<id>.<past_tense>``; None when it is none of ours."""
        parts = subject.split(".")
        if len(parts) != 6:
            return None
        _, _, tenant, noun, subject_id, verb = parts
        return cls(tenant, noun, subject_id, f"{noun}.{verb}")


def origin_of(url: str) -> str:
    """Name where a URL leads, without its path, which may hold a secret: ``https://host:443``."""
    parts = urlsplit(url)
    try:
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:  # not a port; nothing can be sent there, and the sender says so
        port = 0
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
    return f"{parts.scheme}://{host}:{port}"


def lane_of_url(tenant: str, url_origin: str) -> str:
    """Name the lane of a job's own URL: jobs of a tenant that name one receiver queue together."""
    return f"{tenant} {url_origin}"


def takers(subject: Subject, sequence: int, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Choose which of a tenant's endpoints get a durable event."""
    if subject.type.startswith(_ABOUT_ENDPOINTS) and subject.type != _DISABLED:
        return []
    if subject.of_stage:
        return []
    return [
        endpoint
        for endpoint in endpoints
        if endpoint.enabled
        and not endpoint.deleted
        and endpoint.tenant == subject.tenant
        and sequence > endpoint.since_sequence
        and endpoint.id != subject.subject_id
        and endpoint.takes(subject.type)
    ]


def plan(stored: StoredEvent, subject: Subject, endpoints: Iterable[Endpoint], job_url: str | None) -> list[Planned]:
    """List the deliveries of a durable event: to a tenant's endpoints, and to the URL that its job named.

    Raises:
        ValueError: the event does not belong on its subject.
    """
    receivers = [(endpoint.id, endpoint.id) for endpoint in takers(subject, stored.sequence, endpoints)]
    if job_url is not None and subject.noun == "job":
        receivers.append((subject.subject_id, lane_of_url(subject.tenant, origin_of(job_url))))
    if not receivers:
        return []
    event_id = decode_at(stored.subject, stored.body).id
    return [
        Planned(endpoint_id, stored.sequence, subject.tenant, lane, event_id, subject.type, subject.subject_id)
        for endpoint_id, lane in receivers
    ]


def takers_of_progress(subject: Subject, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Choose which of a tenant's endpoints get a job's progress: those that name it, and not only ``job.*``."""
    if subject.of_stage:
        return []
    return [
        endpoint
        for endpoint in endpoints
        if endpoint.enabled
        and not endpoint.deleted
        and endpoint.tenant == subject.tenant
        and JobProgressed.type in endpoint.types
    ]


def names_url(subject: Subject) -> bool:
    """Tell whether an event may name a URL for its job's events."""
    return subject.type == JobSubmitted.type
