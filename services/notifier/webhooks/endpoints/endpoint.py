"""An endpoint: where a tenant's webhooks go, which ones, and how they are signed. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from services.notifier.webhooks.sending.signing import Signing


@dataclass(frozen=True)
class EndpointSecret:
    """A secret "whsec_…" that is signed with, until ``expires_at`` or for ever."""

    secret: SecretStr
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Endpoint:
    """One endpoint of a tenant as it is stored; a deleted one stays as a note that it was."""

    id: str
    tenant: str
    url: str
    #: Event types and patterns like "job.*"; none means all durable events but those about webhooks.
    types: tuple[str, ...]
    description: str
    #: The newest first; older ones sign too until they expire.
    secrets: tuple[EndpointSecret, ...]
    signing: Signing
    #: Sent with each request; they may hold secrets.
    headers: Mapping[str, str]
    #: At most so many requests a second; None: as fast as it answers.
    rate_per_s: float | None
    #: One event of a job after the other, none before the one before it is delivered or given up.
    ordered: bool
    enabled: bool
    #: Why it is not enabled, when we decided that: "gone" or "failing".
    disabled_reason: str | None
    #: It gets the events after this sequence.
    since_sequence: int
    created_at: datetime
    updated_at: datetime
    deleted: bool = False

    def takes(self, event_type: str) -> bool:
        """Tell whether the endpoint asked for events of a type."""
        return not self.types or event_type in self.types or f"{event_type.partition('.')[0]}.*" in self.types
