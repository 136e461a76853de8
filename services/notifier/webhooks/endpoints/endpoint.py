"""An endpoint: the URL that gets a tenant's webhooks, which ones, and how they are signed. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import SecretStr

from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.key_pair import new_private_key
from services.notifier.webhooks.messages.formats import Format
from services.notifier.webhooks.signing import Signing, new_secret, unexpired


@dataclass(frozen=True)
class EndpointSecret:
    """A signing secret "whsec_…" and a private key "whsk_…", valid until ``expires_at``; None: they do not expire."""

    secret: SecretStr
    expires_at: datetime | None = None
    #: None in a record from before endpoints had key pairs of their own.
    private_key: SecretStr | None = None

    @classmethod
    def new(cls) -> EndpointSecret:
        """Return a new secret with a new private key."""
        return cls(SecretStr(new_secret()), private_key=SecretStr(new_private_key()))


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
    #: What it gets: the event, or a message about it.
    format: Format = "cloudevents"
    #: Daily time without requests; what happens then is sent afterwards.
    quiet_hours: QuietHours | None = None
    #: Text of its messages, and subject of its e-mails, with names of values; None: a sentence about the event.
    template: str | None = None
    subject: str | None = None
    #: The epoch of EVENTS that ``since_sequence`` belongs to; empty in records of an earlier version.
    since_epoch: str = ""

    @property
    def active(self) -> bool:
        """Whether webhooks are sent to it."""
        return self.enabled and not self.deleted

    def signs_with_shared_key(self, now: datetime) -> bool:
        """Return whether its ``v1a`` signatures, or some of them, are by the key that endpoints had in common."""
        return self.signing != "v1" and any(secret.private_key is None for secret in unexpired(self.secrets, now))

    def with_own_keys(self) -> Endpoint:
        """Return the endpoint with a private key in each of its secrets."""
        secrets = tuple(
            secret if secret.private_key else replace(secret, private_key=SecretStr(new_private_key()))
            for secret in self.secrets
        )
        return replace(self, secrets=secrets)

    def subscribes_to(self, event_type: str) -> bool:
        """Return whether the endpoint's types include an event type."""
        return not self.types or event_type in self.types or f"{event_type.partition('.')[0]}.*" in self.types
