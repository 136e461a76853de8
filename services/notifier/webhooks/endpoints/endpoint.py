"""An endpoint: the URL that gets a tenant's webhooks, which ones, and how they are signed. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from services.notifier.webhooks.signing import Signing


@dataclass(frozen=True)
class EndpointSecret:
    """A signing secret "whsec_…", valid until ``expires_at``; None: it does not expire."""

    secret: SecretStr
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of a tenant as it is stored; a deleted one remains as a tombstone."""

    id: str
    tenant: str
    url: str
    #: Event types and patterns like "job.*"; empty: all durable events but those about webhooks.
    types: tuple[str, ...]
    description: str
    #: The newest first; older ones sign too until they expire.
    secrets: tuple[EndpointSecret, ...]
    signing: Signing
    #: Sent with each request; they may hold secrets.
    headers: Mapping[str, str]
    #: Maximum requests per second; None: no limit.
    rate_per_s: float | None
    #: Strict order for each job: an event waits until the one before it is delivered or has failed for good.
    ordered: bool
    enabled: bool
    #: Why the notifier disabled it: "gone" or "failing".
    disabled_reason: str | None
    #: It gets the events after this sequence.
    since_sequence: int
    created_at: datetime
    updated_at: datetime
    deleted: bool = False

    @property
    def active(self) -> bool:
        """Whether webhooks are sent to it."""
        return self.enabled and not self.deleted

    def subscribes_to(self, event_type: str) -> bool:
        """Return whether the endpoint's types include an event type."""
        return not self.types or event_type in self.types or f"{event_type.partition('.')[0]}.*" in self.types
