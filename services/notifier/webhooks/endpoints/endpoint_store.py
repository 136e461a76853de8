"""Store of all endpoints: in memory, read from the WEBHOOKS stream; changes are conditional publishes to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import LIVE_WEBHOOKS
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from kit.bus.tail import EventTail
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.endpoints.secret_encryption import DecryptionError, SecretEncryption
from services.notifier.webhooks.messages.formats import Format
from services.notifier.webhooks.signing import Signing

log = logging.getLogger(__name__)

_DEFAULT: Final = "default"
#: Lifetime of a deletion's record: deliveries are listed for 30 days, attempts end sooner.
_TOMBSTONE_S: Final = 35 * 86_400
#: What a record takes in the stream beside its body: subject and headers.
_OVERHEAD_BYTES: Final = 300


class _Record(BaseModel):
    """An endpoint as it is in the stream: all but the encrypted part is readable there."""

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
    since_epoch: str = ""
    created_at: AwareDatetime
    updated_at: AwareDatetime
    deleted: bool = False
    format: Format = "cloudevents"
    quiet_hours: QuietHours | None = None
    sealed: str


class _SecretRecord(BaseModel):
    secret: str
    expires_at: AwareDatetime | None = None
    private_key: str | None = None


class _EncryptedPart(BaseModel):
    """The encrypted part of a record: the URL too, whose path is often a secret, and what users write to people."""

    url: str
    template: str | None = None
    subject: str | None = None
    headers: dict[str, str] = {}
    secrets: tuple[_SecretRecord, ...] = ()


class _DefaultSecretsRecord(BaseModel):
    secrets: tuple[_SecretRecord, ...] = Field(min_length=1)


@dataclass(frozen=True)
class DefaultSecrets:
    """Signing secrets of jobs' own webhook URLs, the newest first; empty when they cannot be decrypted."""

    secrets: tuple[EndpointSecret, ...]
    sequence: int


@dataclass(frozen=True)
class _StoredEndpoint:
    endpoint: Endpoint
    sequence: int
    #: Size of its record.
    bytes: int


class EndpointStore:
    """All endpoints. Every notifier has one and follows changes made by any of them."""

    def __init__(self, store: EventStore, encryption: SecretEncryption) -> None:
        """Use the store of the WEBHOOKS stream."""
        self.store = store
        self._encryption = encryption
        self._by_id: dict[str, _StoredEndpoint] = {}
        self._by_tenant: dict[str, dict[str, Endpoint]] = {}
        self._defaults: dict[str, DefaultSecrets] = {}
        self._observers: list[Callable[[Endpoint], None]] = []
        self._tail = EventTail(store, self._on_record, live=LIVE_WEBHOOKS, name="endpoints")
        #: Set when all that was stored at the start has been read.
        self.caught_up = self._tail.caught_up
        self.reading = self._tail.reading

    async def run(self) -> None:
        """Follow all changes.

        Raises:
            EpochChanged: the stream was recreated.
        """
        await self._tail.run()

    async def wait_until_read(self, timeout_s: float = 10.0) -> None:
        """Wait until all that was stored at the start is known: before that an endpoint would seem not to exist.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, after ``timeout_s``.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.caught_up.wait()
        except TimeoutError:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The webhook endpoints are not read yet.") from None

    def on_change(self, observer: Callable[[Endpoint], None]) -> None:
        """Call ``observer`` with each endpoint that is created, changed or deleted, in the order of registration."""
        self._observers.append(observer)

    def find(self, endpoint_id: str) -> Endpoint | None:
        """Return an endpoint of any tenant by its id, also a deleted one; for a request, only its public keys."""
        known = self._by_id.get(endpoint_id)
        return known.endpoint if known else None

    def get(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Return a tenant's endpoint, also a deleted one."""
        return self._by_tenant.get(tenant, {}).get(endpoint_id)

    def active(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Return a tenant's endpoint if webhooks are sent to it."""
        endpoint = self.get(tenant, endpoint_id)
        return endpoint if endpoint is not None and endpoint.active else None

    def require(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Return a tenant's endpoint.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND.
        """
        endpoint = self.get(tenant, endpoint_id)
        if endpoint is None or endpoint.deleted:
            raise SaccadeError(ErrorCode.WEBHOOK_NOT_FOUND, f"There is no webhook endpoint {endpoint_id[:60]!r}.")
        return endpoint

    def of_tenant(self, tenant: str) -> list[Endpoint]:
        """Return a tenant's endpoints, the oldest first, without the deleted."""
        return [endpoint for endpoint in self._by_tenant.get(tenant, {}).values() if not endpoint.deleted]

    def count_deleted(self, tenant: str, now: datetime) -> int:
        """Return the number of a tenant's deleted endpoints whose records are still stored."""
        since = now - timedelta(seconds=_TOMBSTONE_S)
        known = self._by_tenant.get(tenant, {}).values()
        return sum(endpoint.deleted and endpoint.updated_at > since for endpoint in known)

    def stored_bytes(self, tenant: str, now: datetime) -> int:
        """Return the bytes of a tenant's records that are still stored, deleted endpoints included."""
        since = now - timedelta(seconds=_TOMBSTONE_S)
        known = self._by_tenant.get(tenant, {}).values()
        return sum(
            self._by_id[endpoint.id].bytes for endpoint in known if not endpoint.deleted or endpoint.updated_at > since
        )

    @property
    def tenants(self) -> int:
        """Number of tenants that have records, or had some."""
        return len(self._by_tenant)

    def added_bytes(self, endpoint: Endpoint) -> int:
        """Return by how much the record of an endpoint is larger than the stored one."""
        known = self._by_id.get(endpoint.id)
        return len(self._encoded(endpoint)) + _OVERHEAD_BYTES - (known.bytes if known else 0)

    def all(self) -> list[Endpoint]:
        """Return all endpoints, also deleted ones."""
        return [known.endpoint for known in self._by_id.values()]

    def sequence(self, endpoint_id: str) -> int:
        """Return the sequence of an endpoint's record, the condition for changing it; 0 for none."""
        known = self._by_id.get(endpoint_id)
        return known.sequence if known else 0

    async def put(self, endpoint: Endpoint, expected_sequence: int) -> int:
        """Store an endpoint if it has not changed since ``expected_sequence``, and return its new sequence.

        Raises:
            Conflict: it has changed.
            SaccadeError: BUS_UNAVAILABLE.
        """
        body = self._encoded(endpoint)
        # The tombstone of a deleted endpoint outlasts all records of its deliveries and then expires by itself.
        headers = {"Nats-TTL": f"{_TOMBSTONE_S}s"} if endpoint.deleted else None
        message = Message(_subject(endpoint.tenant, endpoint.id), new_id("evt"), body)
        sequence = await self.store.publish(message, after=expected_sequence, headers=headers)
        self._update(endpoint, sequence, len(body))
        return sequence

    def _encoded(self, endpoint: Endpoint) -> bytes:
        """Return the record of an endpoint; encrypted anew, it is as long each time."""
        subject = _subject(endpoint.tenant, endpoint.id)
        secrets = tuple(map(_to_record, endpoint.secrets))
        encrypted = _EncryptedPart(
            url=endpoint.url,
            template=endpoint.template,
            subject=endpoint.subject,
            headers=dict(endpoint.headers),
            secrets=secrets,
        )
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
            since_epoch=endpoint.since_epoch,
            created_at=endpoint.created_at,
            updated_at=endpoint.updated_at,
            deleted=endpoint.deleted,
            format=endpoint.format,
            quiet_hours=endpoint.quiet_hours,
            sealed=self._encryption.encrypt(encrypted.model_dump(mode="json"), subject),
        )
        return record.model_dump_json(exclude_defaults=True).encode()

    async def wait_for(self, endpoint_id: str) -> None:
        """Wait up to two seconds until an endpoint that another process just created is known."""
        for _ in range(100):
            if endpoint_id in self._by_id:
                return
            await asyncio.sleep(0.02)

    async def default_secrets(self, tenant: str) -> DefaultSecrets:
        """Return the signing secrets of a tenant's jobs' own webhook URLs; created at the first request.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        while (known := self._defaults.get(tenant)) is None:
            if stored := await self.store.load(_subject(tenant, _DEFAULT)):
                self._update_default(tenant, stored[0])
                continue
            try:
                await self.put_default(tenant, (EndpointSecret.new(),), 0)
            except Conflict:
                log.info("another notifier created the default secret of %s", tenant)
        return known

    async def put_default(self, tenant: str, secrets: tuple[EndpointSecret, ...], expected_sequence: int) -> None:
        """Store the signing secrets of a tenant's jobs' own webhook URLs, if they have not changed.

        Raises:
            Conflict: they have changed.
            SaccadeError: BUS_UNAVAILABLE.
        """
        subject = _subject(tenant, _DEFAULT)
        record = _DefaultSecretsRecord(secrets=tuple(map(_to_record, secrets)))
        body = self._encryption.encrypt(record.model_dump(mode="json"), subject).encode()
        sequence = await self.store.publish(Message(subject, new_id("evt"), body), after=expected_sequence)
        self._update_default(tenant, StoredEvent(sequence, subject, body))

    def _update_default(self, tenant: str, stored: StoredEvent) -> None:
        if (known := self._defaults.get(tenant)) and stored.sequence <= known.sequence:
            return
        try:
            fields = self._encryption.decrypt(stored.body.decode(), stored.subject)
            record = _DefaultSecretsRecord.model_validate(fields)
        except (ValidationError, DecryptionError, UnicodeDecodeError):
            log.error("the default secret of %s was encrypted with another key, or changed", tenant)  # noqa: TRY400
            self._defaults[tenant] = DefaultSecrets((), stored.sequence)
            return
        self._defaults[tenant] = DefaultSecrets(tuple(map(_from_record, record.secrets)), stored.sequence)

    def _on_record(self, stored: StoredEvent) -> None:
        _, _, tenant, name = stored.subject.split(".")
        if name == _DEFAULT:
            self._update_default(tenant, stored)
        if not name.startswith("whk_"):
            return
        try:
            endpoint = self._decoded(stored, tenant, name)
        except (ValidationError, DecryptionError) as error:
            reason = error if isinstance(error, DecryptionError) else f"{error.error_count()} of its fields are invalid"
            log.error("endpoint %s cannot be read and gets no webhooks: %s", name, reason)  # noqa: TRY400 - no secrets in logs
            return
        self._update(endpoint, stored.sequence, len(stored.body))

    def _decoded(self, stored: StoredEvent, tenant: str, name: str) -> Endpoint:
        record = _Record.model_validate_json(stored.body)
        encrypted = _EncryptedPart.model_validate(self._encryption.decrypt(record.sealed, stored.subject))
        plain: dict[str, Any] = {field: getattr(record, field) for field in _Record.model_fields if field != "sealed"}
        secrets = tuple(map(_from_record, encrypted.secrets))
        plain |= {"url": encrypted.url, "template": encrypted.template, "subject": encrypted.subject}
        endpoint = Endpoint(**plain, headers=encrypted.headers, secrets=secrets)
        return replace(endpoint, id=name, tenant=tenant)

    def _update(self, endpoint: Endpoint, sequence: int, body_bytes: int) -> None:
        if sequence <= self.sequence(endpoint.id):
            return  # this process' own change, read back from the stream
        self._by_id[endpoint.id] = _StoredEndpoint(endpoint, sequence, body_bytes + _OVERHEAD_BYTES)
        self._by_tenant.setdefault(endpoint.tenant, {})[endpoint.id] = endpoint
        for observer in self._observers:
            observer(endpoint)


def _subject(tenant: str, name: str) -> str:
    return f"saccade.whk.{tenant}.{name}"


def _from_record(record: _SecretRecord) -> EndpointSecret:
    private_key = None if record.private_key is None else SecretStr(record.private_key)
    return EndpointSecret(SecretStr(record.secret), record.expires_at, private_key)


def _to_record(secret: EndpointSecret) -> _SecretRecord:
    private_key = None if secret.private_key is None else secret.private_key.get_secret_value()
    return _SecretRecord(secret=secret.secret.get_secret_value(), expires_at=secret.expires_at, private_key=private_key)
