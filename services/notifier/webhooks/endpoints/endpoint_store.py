"""All endpoints, in memory, as the WEBHOOKS stream has them; changes are conditional publishes to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import LIVE_WEBHOOKS
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from kit.bus.tail import EventTail
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.secret_encryption import Sealing, UnsealableError
from services.notifier.webhooks.sending.signing import Signing, new_secret

log = logging.getLogger(__name__)

_DEFAULT: Final = "default"
#: The stream keeps the note of a deletion for so long: deliveries are known for 30 days, attempts end sooner.
_NOTE_S: Final = 35 * 86_400


class _Record(BaseModel):
    """What stands in the stream: all but the sealed part can be read there."""

    model_config = ConfigDict(extra="ignore")

    id: str
    tenant: str
    types: tuple[str, ...] = ()
    description: str = ""
    signing: Signing = "v1"
    rate_per_s: float | None = None
    ordered: bool = False
    enabled: bool = True
    disabled_reason: str | None = None
    since_sequence: int = 0
    created_at: AwareDatetime
    updated_at: AwareDatetime
    deleted: bool = False
    sealed: str


class _SealedSecret(BaseModel):
    secret: str
    expires_at: AwareDatetime | None = None


class _Sealed(BaseModel):
    """What is sealed: the URL too, whose path often is a secret."""

    url: str
    headers: dict[str, str] = {}
    secrets: tuple[_SealedSecret, ...] = ()


class _SealedDefault(BaseModel):
    secrets: tuple[_SealedSecret, ...] = Field(min_length=1)


@dataclass(frozen=True)
class DefaultSecrets:
    """What the webhooks of jobs' own URLs are signed with, the newest first; none where they cannot be opened."""

    secrets: tuple[EndpointSecret, ...]
    sequence: int


@dataclass(frozen=True)
class _Known:
    endpoint: Endpoint
    sequence: int


class Endpoints:
    """The registry. Every notifier has one, and learns of a change wherever it was made."""

    def __init__(self, store: EventStore, sealing: Sealing) -> None:
        """Use the store of the WEBHOOKS stream."""
        self.store = store
        self._sealing = sealing
        self._known: dict[str, _Known] = {}
        self._by_tenant: dict[str, dict[str, Endpoint]] = {}
        self._defaults: dict[str, DefaultSecrets] = {}
        self._told: list[Callable[[Endpoint], None]] = []
        self._tail = EventTail(store, self._on_record, live=LIVE_WEBHOOKS, name="endpoints")
        #: Set when all that was stored at the start is known.
        self.caught_up = self._tail.caught_up

    async def run(self) -> None:
        """Follow all changes, for ever.

        Raises:
            EpochChanged: the stream was made anew.
        """
        await self._tail.run()

    def on_change(self, told: Callable[[Endpoint], None]) -> None:
        """Tell of each endpoint that is made, changed or deleted from now on."""
        self._told.append(told)

    def find(self, endpoint_id: str) -> Endpoint | None:
        """Give an endpoint by its id, whoever's it is; for our own use only."""
        known = self._known.get(endpoint_id)
        return known.endpoint if known else None

    def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Give a tenant's endpoint; a deleted one says so."""
        return self._by_tenant.get(tenant, {}).get(endpoint_id)

    def of_tenant(self, tenant: str) -> list[Endpoint]:
        """List a tenant's endpoints, the oldest first, without the deleted."""
        return [one for one in self._by_tenant.get(tenant, {}).values() if not one.deleted]

    def all(self) -> list[Endpoint]:
        """List all endpoints, deleted ones too."""
        return [known.endpoint for known in self._known.values()]

    def sequence(self, endpoint_id: str) -> int:
        """Give the sequence of an endpoint's record, by which a change of it is conditional; 0 for none."""
        known = self._known.get(endpoint_id)
        return known.sequence if known else 0

    async def put(self, endpoint: Endpoint, expected_sequence: int) -> int:
        """Store an endpoint if nobody changed it since ``expected_sequence``, and give its new sequence.

        Raises:
            Conflict: somebody did.
            SaccadeError: BUS_UNAVAILABLE.
        """
        subject = _subject(endpoint.tenant, endpoint.id)
        sealed = _Sealed(url=endpoint.url, headers=dict(endpoint.headers), secrets=tuple(map(_plain, endpoint.secrets)))
        record = _Record(
            id=endpoint.id,
            tenant=endpoint.tenant,
            types=endpoint.types,
            description=endpoint.description,
            signing=endpoint.signing,
            rate_per_s=endpoint.rate_per_s,
            ordered=endpoint.ordered,
            enabled=endpoint.enabled,
            disabled_reason=endpoint.disabled_reason,
            since_sequence=endpoint.since_sequence,
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
            deleted=endpoint.deleted,
            sealed=self._sealing.seal(sealed.model_dump(mode="json"), subject),
        )
        body = record.model_dump_json(exclude_defaults=True).encode()
        # The note that an endpoint was deleted outlasts all that is known of its deliveries, and then goes by itself.
        headers = {"Nats-TTL": f"{_NOTE_S}s"} if endpoint.deleted else None
        message = Message(subject, new_id("evt"), body)
        sequence = await self.store.publish(message, after=expected_sequence, headers=headers)
        self._learn(endpoint, sequence)
        return sequence

    async def wait_for(self, endpoint_id: str) -> None:
        """Wait a moment until a change that somebody else made just now is known."""
        for _ in range(100):
            if endpoint_id in self._known:
                return
            await asyncio.sleep(0.02)

    async def default_secrets(self, tenant: str) -> DefaultSecrets:
        """Give what a tenant's jobs' own webhook URLs are signed with; it is made when first asked for.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        while (known := self._defaults.get(tenant)) is None:
            if stored := await self.store.load(_subject(tenant, _DEFAULT)):
                self._learn_default(tenant, stored[0])
                continue
            try:
                await self.put_default(tenant, (EndpointSecret(SecretStr(new_secret())),), 0)
            except Conflict:
                log.info("another notifier made the default secret of %s", tenant)
        return known

    async def put_default(self, tenant: str, secrets: tuple[EndpointSecret, ...], expected_sequence: int) -> None:
        """Store what a tenant's jobs' own webhook URLs are signed with, if nobody changed it.

        Raises:
            Conflict: somebody did.
            SaccadeError: BUS_UNAVAILABLE.
        """
        subject = _subject(tenant, _DEFAULT)
        plain = _SealedDefault(secrets=tuple(map(_plain, secrets)))
        body = self._sealing.seal(plain.model_dump(mode="json"), subject).encode()
        sequence = await self.store.publish(Message(subject, new_id("evt"), body), after=expected_sequence)
        self._learn_default(tenant, StoredEvent(sequence, subject, body))

    def _learn_default(self, tenant: str, stored: StoredEvent) -> None:
        if (known := self._defaults.get(tenant)) and stored.sequence <= known.sequence:
            return
        try:
            sealed = _SealedDefault.model_validate(self._sealing.open(stored.body.decode(), stored.subject))
        except (ValidationError, UnsealableError, UnicodeDecodeError):
            log.error("the default secret of %s was sealed with another key, or changed", tenant)  # noqa: TRY400
            self._defaults[tenant] = DefaultSecrets((), stored.sequence)
            return
        self._defaults[tenant] = DefaultSecrets(tuple(map(_secret, sealed.secrets)), stored.sequence)

    def _on_record(self, stored: StoredEvent) -> None:
        _, _, tenant, name = stored.subject.split(".")
        if name == _DEFAULT:
            self._learn_default(tenant, stored)
        if not name.startswith("whk_"):
            return
        try:
            endpoint = self._opened(stored, tenant, name)
        except (ValidationError, UnsealableError) as error:
            why = error if isinstance(error, UnsealableError) else f"{error.error_count()} fields of it are wrong"
            log.error("endpoint %s cannot be read and gets nothing: %s", name, why)  # noqa: TRY400 - no secrets in logs
            return
        self._learn(endpoint, stored.sequence)

    def _opened(self, stored: StoredEvent, tenant: str, name: str) -> Endpoint:
        record = _Record.model_validate_json(stored.body)
        sealed = _Sealed.model_validate(self._sealing.open(record.sealed, stored.subject))
        plain: dict[str, Any] = {field: getattr(record, field) for field in _Record.model_fields if field != "sealed"}
        secrets = tuple(map(_secret, sealed.secrets))
        endpoint = Endpoint(**plain, url=sealed.url, headers=sealed.headers, secrets=secrets)
        return replace(endpoint, id=name, tenant=tenant)

    def _learn(self, endpoint: Endpoint, sequence: int) -> None:
        if sequence <= self.sequence(endpoint.id):
            return  # our own change, which comes back by the stream
        self._known[endpoint.id] = _Known(endpoint, sequence)
        self._by_tenant.setdefault(endpoint.tenant, {})[endpoint.id] = endpoint
        for told in self._told:
            told(endpoint)


def _subject(tenant: str, name: str) -> str:
    return f"saccade.whk.{tenant}.{name}"


def _secret(sealed: _SealedSecret) -> EndpointSecret:
    return EndpointSecret(SecretStr(sealed.secret), sealed.expires_at)


def _plain(secret: EndpointSecret) -> _SealedSecret:
    return _SealedSecret(secret=secret.secret.get_secret_value(), expires_at=secret.expires_at)
