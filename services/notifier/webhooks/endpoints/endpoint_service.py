"""Rules behind the HTTP routes of endpoints: create, change, rotate secrets, delete."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.quotas import QuotaName
from contracts.streams import EVENTS
from kit.auth.quotas import Quotas
from kit.bus.connection import epoch_of
from kit.bus.event_store import Conflict
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.stream_room import StreamRoom
from kit.network.address_guard import AddressGuard
from services.notifier.webhooks.endpoints.email_addresses import EmailRecipients
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.url_check import check_destination, check_format
from services.notifier.webhooks.messages.formats import MESSAGE_TYPES
from services.notifier.webhooks.signing import EndpointKeyPair, Signer

#: Maximum secrets that sign at a time: the newest and those that have not expired. Each makes up to two signatures, and
#: our receivers read 16 of them.
MAX_SECRETS: Final = 8
MAX_OVERLAP: Final = timedelta(days=7)

#: Fields by which a record can grow much.
_TEXTS: Final = frozenset({"url", "types", "description", "headers", "template", "subject"})


class EndpointService:
    """Endpoints as users create and change them. All operations are tenant-scoped."""

    def __init__(
        self,
        endpoints: EndpointStore,
        *,
        signer: Signer,
        guard: AddressGuard,
        https_only: bool,
        idempotency: Idempotency,
        quotas: Quotas,
        recipients: EmailRecipients | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Accept the URLs that ``guard`` allows, and e-mail to ``recipients``; None where the server sends none."""
        self._endpoints = endpoints
        self._guard = guard
        self._https_only = https_only
        self._recipients = recipients
        self._idempotency, self._quotas = idempotency, quotas
        #: By tenant: one endpoint is created after the other, since each counts before the next may be stored.
        self._creating: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._signer = signer
        self._room = StreamRoom(endpoints.store.client, endpoints.store.stream, kept_s=0)
        self.now = now

    def list_endpoints(self, tenant: str) -> list[Endpoint]:
        """Return a tenant's endpoints, the oldest first."""
        return sorted(self._endpoints.of_tenant(tenant), key=lambda endpoint: endpoint.id)

    def get(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Return a tenant's endpoint.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND.
        """
        return self._endpoints.require(tenant, endpoint_id)

    def key_pairs(self, endpoint: Endpoint) -> list[EndpointKeyPair]:
        """Return the key pairs of an endpoint's ``v1a`` signatures, the newest first."""
        return self._signer.key_pairs(endpoint.secrets, self.now())

    def public_keys(self, endpoint_id: str) -> list[EndpointKeyPair]:
        """Return the key pairs of an endpoint of any tenant, the newest first.

        Receivers have no API key, and public keys are no secret.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND.
        """
        endpoint = self._endpoints.find(endpoint_id)
        return self.key_pairs(self._endpoints.require(endpoint.tenant if endpoint else "", endpoint_id))

    def shared_public_keys(self) -> list[EndpointKeyPair]:
        """Return the key pair that endpoints had in common, as long as one of them signs with it."""
        now = self.now()
        in_use = any(endpoint.signs_with_shared_key(now) for endpoint in self._endpoints.all() if not endpoint.deleted)
        return [self._signer.shared_key_pair()] if in_use else []

    async def create(self, tenant: str, fields: Mapping[str, Any], key: IdempotencyKey | None) -> Endpoint:
        """Create an endpoint with a secret of its own; it gets the events from now on.

        Raises:
            SaccadeError: INVALID_PARAMETER, EMAIL_NOT_CONFIGURED, TOO_MANY_WEBHOOKS, QUOTA_EXCEEDED, RATE_LIMITED,
                IDEMPOTENCY_KEY_REUSED, BUS_UNAVAILABLE.
        """
        now = self.now()
        endpoint = _with_types(
            Endpoint(
                id=new_id("whk"),
                tenant=tenant,
                secrets=(EndpointSecret.new(),),
                disabled_reason=None,
                since_sequence=0,
                created_at=now,
                updated_at=now,
                **fields,
            )
        )
        self._check_destination(endpoint)
        check_format(endpoint)
        if key is not None:
            endpoint_id = await self._idempotency.claim(key, endpoint.id)
            endpoint = replace(endpoint, id=endpoint_id)
        async with self._creating[tenant]:
            if self._endpoints.get(tenant, endpoint.id):
                return self.get(tenant, endpoint.id)
            return await self._store_new(endpoint, now)

    async def _store_new(self, endpoint: Endpoint, now: datetime) -> Endpoint:
        """Store an endpoint if its tenant may have one more.

        Raises:
            SaccadeError: TOO_MANY_WEBHOOKS, QUOTA_EXCEEDED, BUS_UNAVAILABLE.
        """
        tenant = endpoint.tenant
        self._quotas.require(tenant, QuotaName.WEBHOOKS, len(self._endpoints.of_tenant(tenant)))
        self._quotas.require(tenant, QuotaName.DELETED_WEBHOOKS, self._endpoints.count_deleted(tenant, now))
        endpoint = replace(endpoint, **await self._head())
        await self._require_room(endpoint, now)
        try:
            await self._endpoints.put(endpoint, 0)
        except Conflict:  # a request with the same key, in another process
            await self._endpoints.wait_for(endpoint.id)
            return self.get(tenant, endpoint.id)
        return endpoint

    async def _require_room(self, endpoint: Endpoint, now: datetime) -> None:
        """Check that an endpoint's record fits into what its tenant may store.

        Raises:
            SaccadeError: QUOTA_EXCEEDED, BUS_UNAVAILABLE.
        """
        added, tenant = self._endpoints.added_bytes(endpoint), endpoint.tenant
        if added <= 0:
            return
        used, tenants = self._endpoints.stored_bytes(tenant, now), self._endpoints.tenants
        tenants += not used
        most = await self._room.part_bytes(tenants)
        self._quotas.require(tenant, QuotaName.WEBHOOK_BYTES, used, added, most=most)

    async def change(self, tenant: str, endpoint_id: str, changes: Mapping[str, Any]) -> Endpoint:
        """Change fields of an endpoint; one that is enabled again gets the events from then on.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_CHANGED, INVALID_PARAMETER, EMAIL_NOT_CONFIGURED, QUOTA_EXCEEDED,
                BUS_UNAVAILABLE.
        """
        endpoint = self.get(tenant, endpoint_id)
        sequence = self._endpoints.sequence(endpoint_id)
        fields = dict(changes)
        if "enabled" in fields:
            fields["disabled_reason"] = None
            if fields["enabled"] and not endpoint.enabled:
                fields |= await self._head()
        if endpoint.signing == "v1":
            # No receiver verifies its v1a signatures yet, so none relies on the key that endpoints had in common.
            endpoint = endpoint.with_own_keys()
        changed = _with_types(replace(endpoint, updated_at=self.now(), **fields))
        if {"url", "format"} & fields.keys():
            self._check_destination(changed)
        check_format(changed)
        if _TEXTS & fields.keys():  # switching an endpoint on and off needs no room that is worth a refusal
            await self._require_room(changed, changed.updated_at)
        return await self._put(changed, sequence)

    async def rotate(self, tenant: str, endpoint_id: str, overlap: timedelta) -> Endpoint:
        """Create a new secret for an endpoint; the earlier ones sign too for ``overlap``, unless they expire sooner.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_CHANGED, BUS_UNAVAILABLE.
        """
        endpoint, sequence = self.get(tenant, endpoint_id), self._endpoints.sequence(endpoint_id)
        now = self.now()
        secrets = _rotated(endpoint.secrets, now, overlap)
        return await self._put(replace(endpoint, secrets=secrets, updated_at=now), sequence)

    async def delete(self, tenant: str, endpoint_id: str) -> None:
        """Delete an endpoint; its pending deliveries are not sent.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_CHANGED, BUS_UNAVAILABLE.
        """
        endpoint, sequence = self.get(tenant, endpoint_id), self._endpoints.sequence(endpoint_id)
        tombstone = replace(
            endpoint,
            deleted=True,
            enabled=False,
            secrets=(),
            headers={},
            template=None,
            subject=None,
            updated_at=self.now(),
        )
        await self._put(tombstone, sequence)

    async def default_secrets(self, tenant: str) -> tuple[EndpointSecret, ...]:
        """Return the signing secrets of jobs' own ``webhook_url``, the newest first.

        Raises:
            SaccadeError: WEBHOOKS_NOT_CONFIGURED, BUS_UNAVAILABLE.
        """
        if secrets := (await self._endpoints.default_secrets(tenant)).secrets:
            return secrets
        raise SaccadeError(
            ErrorCode.WEBHOOKS_NOT_CONFIGURED,
            "The default secret was encrypted with another key than this server has.",
            hint="Ask the operator to restore NOTIFIER_SECRET_KEY; if it is lost, create a new secret: "
            "POST /v1/webhooks/default/rotate-secret.",
        )

    async def rotate_default(self, tenant: str, overlap: timedelta) -> tuple[EndpointSecret, ...]:
        """Create a new signing secret for jobs' own ``webhook_url``; the old one signs too for ``overlap``.

        Raises:
            SaccadeError: WEBHOOK_CHANGED, BUS_UNAVAILABLE.
        """
        known = await self._endpoints.default_secrets(tenant)
        secrets = _rotated(known.secrets, self.now(), overlap)
        try:
            await self._endpoints.put_default(tenant, secrets, known.sequence)
        except Conflict:
            raise SaccadeError(ErrorCode.WEBHOOK_CHANGED) from None
        return secrets

    def _check_destination(self, endpoint: Endpoint) -> None:
        check_destination(endpoint, https_only=self._https_only, guard=self._guard, recipients=self._recipients)

    async def _put(self, endpoint: Endpoint, sequence: int) -> Endpoint:
        try:
            await self._endpoints.put(endpoint, sequence)
        except Conflict:
            raise SaccadeError(ErrorCode.WEBHOOK_CHANGED) from None
        return endpoint

    async def _head(self) -> dict[str, Any]:
        """Return the fields of an endpoint that gets the events from now on.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        epoch, last = await epoch_of(self._endpoints.store.client, EVENTS.name)
        return {"since_epoch": epoch, "since_sequence": last}


def _with_types(endpoint: Endpoint) -> Endpoint:
    """Return an endpoint; one for messages that names no types gets what people want to be told."""
    if endpoint.format == "cloudevents" or endpoint.types:
        return endpoint
    return replace(endpoint, types=MESSAGE_TYPES)


def _rotated(secrets: tuple[EndpointSecret, ...], now: datetime, overlap: timedelta) -> tuple[EndpointSecret, ...]:
    """Return a new secret and those not expired; these expire after ``overlap``, or sooner if they already would."""
    ends = now + overlap
    older = [
        replace(secret, expires_at=ends if secret.expires_at is None else min(ends, secret.expires_at))
        for secret in secrets
        if secret.expires_at is None or secret.expires_at > now
    ]
    kept = older[: MAX_SECRETS - 1] if overlap else []
    return (EndpointSecret.new(), *kept)
