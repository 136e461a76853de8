"""Makes and changes endpoints and asks for redeliveries, as users want it: the rules behind the HTTP routes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import SecretStr

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, Envelope, encode
from contracts.events.delivery import WebhookRedeliveryRequested
from contracts.ids import new_id
from contracts.streams import EVENTS
from kit.bus.connection import epoch_of
from kit.bus.event_store import Conflict
from kit.bus.idempotency import Idempotency, IdempotencyKey
from services.notifier.streams.replay import Replay
from services.notifier.streams.sse import Selection
from services.notifier.webhooks.deliveries.delivery import Attempt, Delivery, DeliveryState
from services.notifier.webhooks.deliveries.delivery_projector import Ledger
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import Endpoints
from services.notifier.webhooks.sending.address_guard import AddressGuard, check_url
from services.notifier.webhooks.sending.receiver import Receivers
from services.notifier.webhooks.sending.sender import Answer, Sender
from services.notifier.webhooks.sending.signing import Signer, new_secret

#: Endpoints that a tenant may have; each event costs one delivery an endpoint.
MOST_ENDPOINTS: Final = 100
#: What is signed with at a time: the newest secret and those that have not expired.
MOST_SECRETS: Final = 10
LONGEST_OVERLAP: Final = timedelta(days=7)
_JOB: Final = "job_"


@dataclass(frozen=True)
class Parts:
    """What the desk works with."""

    endpoints: Endpoints
    ledger: Ledger
    receivers: Receivers
    sender: Sender
    signer: Signer
    guard: AddressGuard
    https_only: bool
    replay: Replay
    idempotency: Idempotency
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


class Desk:
    """One tenant's wishes at a time; a tenant is never told of what is another's."""

    def __init__(self, parts: Parts) -> None:
        """Work with ``parts``."""
        self._parts = parts
        self._endpoints = parts.endpoints
        self._ledger = parts.ledger
        self.public_keys = parts.signer.public_keys
        self.now = parts.now

    # -- endpoints

    def endpoints_of(self, tenant: str) -> list[Endpoint]:
        """List a tenant's endpoints, the oldest first."""
        return sorted(self._endpoints.of_tenant(tenant), key=lambda one: one.id)

    def endpoint(self, tenant: str, endpoint_id: str) -> Endpoint:
        """Give a tenant's endpoint.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND.
        """
        endpoint = self._endpoints.get(tenant, endpoint_id)
        if endpoint is None or endpoint.deleted:
            raise SaccadeError(ErrorCode.WEBHOOK_NOT_FOUND, f"There is no webhook endpoint {endpoint_id[:60]!r}.")
        return endpoint

    async def create(self, tenant: str, wanted: Mapping[str, Any], key: IdempotencyKey | None) -> Endpoint:
        """Make an endpoint with a secret of its own; it gets what happens from now on.

        Raises:
            SaccadeError: INVALID_PARAMETER, TOO_MANY_WEBHOOKS, IDEMPOTENCY_KEY_REUSED, BUS_UNAVAILABLE.
        """
        self._check_url(wanted["url"])
        endpoint_id = new_id("whk")
        if key is not None:
            endpoint_id = await self._parts.idempotency.claim(key, endpoint_id)
            if made := self._endpoints.get(tenant, endpoint_id):
                return self.endpoint(tenant, made.id)
        if len(self._endpoints.of_tenant(tenant)) >= MOST_ENDPOINTS:
            raise SaccadeError(ErrorCode.TOO_MANY_WEBHOOKS, f"There may be {MOST_ENDPOINTS} webhook endpoints.")
        now = self._parts.now()
        endpoint = Endpoint(
            id=endpoint_id,
            tenant=tenant,
            secrets=(EndpointSecret(SecretStr(new_secret())),),
            disabled_reason=None,
            since_sequence=await self._head(),
            created_at=now,
            updated_at=now,
            **wanted,
        )
        try:
            await self._endpoints.put(endpoint, 0)
        except Conflict:  # the same key came twice at once
            await self._endpoints.wait_for(endpoint_id)
            return self.endpoint(tenant, endpoint_id)
        return endpoint

    async def change(self, tenant: str, endpoint_id: str, changes: Mapping[str, Any]) -> Endpoint:
        """Change some of an endpoint; one that is enabled gets what happens from then on.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_CHANGED, INVALID_PARAMETER, BUS_UNAVAILABLE.
        """
        endpoint = self.endpoint(tenant, endpoint_id)
        sequence = self._endpoints.sequence(endpoint_id)
        wanted = dict(changes)
        if "url" in wanted:
            self._check_url(wanted["url"])
        if "enabled" in wanted:
            wanted["disabled_reason"] = None
            if wanted["enabled"] and not endpoint.enabled:
                wanted["since_sequence"] = await self._head()
        return await self._put(replace(endpoint, updated_at=self._parts.now(), **wanted), sequence)

    async def rotate(self, tenant: str, endpoint_id: str, overlap: timedelta) -> Endpoint:
        """Give an endpoint a new secret; the ones before it sign too for ``overlap``, if they do not expire sooner.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_CHANGED, BUS_UNAVAILABLE.
        """
        endpoint, sequence = self.endpoint(tenant, endpoint_id), self._endpoints.sequence(endpoint_id)
        now = self._parts.now()
        secrets = _rotated(endpoint.secrets, now, overlap)
        return await self._put(replace(endpoint, secrets=secrets, updated_at=now), sequence)

    async def delete(self, tenant: str, endpoint_id: str) -> None:
        """Delete an endpoint; what still waits for it is not sent.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_CHANGED, BUS_UNAVAILABLE.
        """
        endpoint, sequence = self.endpoint(tenant, endpoint_id), self._endpoints.sequence(endpoint_id)
        note = replace(endpoint, deleted=True, enabled=False, secrets=(), headers={}, updated_at=self._parts.now())
        await self._put(note, sequence)

    async def default_secrets(self, tenant: str) -> tuple[EndpointSecret, ...]:
        """Give what the webhooks of jobs' own ``webhook_url`` are signed with, the newest first.

        Raises:
            SaccadeError: WEBHOOKS_NOT_CONFIGURED, BUS_UNAVAILABLE.
        """
        if secrets := (await self._endpoints.default_secrets(tenant)).secrets:
            return secrets
        raise SaccadeError(
            ErrorCode.WEBHOOKS_NOT_CONFIGURED,
            "The default secret was sealed with another key than this server has.",
            hint="Have the operator set NOTIFIER_SECRET_KEY as it was; if it is lost, make a new secret: "
            "POST /v1/webhooks/default/rotate-secret.",
        )

    async def rotate_default(self, tenant: str, overlap: timedelta) -> tuple[EndpointSecret, ...]:
        """Sign the webhooks of jobs' own ``webhook_url`` with a new secret, and with the old one for ``overlap``.

        Raises:
            SaccadeError: WEBHOOK_CHANGED, BUS_UNAVAILABLE.
        """
        known = await self._endpoints.default_secrets(tenant)
        secrets = _rotated(known.secrets, self._parts.now(), overlap)
        try:
            await self._endpoints.put_default(tenant, secrets, known.sequence)
        except Conflict:
            raise SaccadeError(ErrorCode.WEBHOOK_CHANGED) from None
        return secrets

    async def test(self, tenant: str, endpoint_id: str) -> Answer:
        """Send an example to an endpoint, once and now, enabled or not.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND.
        """
        endpoint = self.endpoint(tenant, endpoint_id)
        example = Envelope(
            id=new_id("evt"),
            source="/notifier",
            type="webhook.test",
            subject=endpoint.id,
            time=self._parts.now(),
            tenant=tenant,
            data={"message": "This is a test. A receiver that checks signatures should find this one good."},
        )
        body = example.model_dump_json(exclude_none=True).encode()
        receivers = self._parts.receivers
        return await self._parts.sender.send(receivers.sign(receivers.of(endpoint), example.id, body))

    # -- deliveries

    def deliveries(
        self, tenant: str, endpoint_id: str, state: DeliveryState | None, limit: int, before: Cursor | None
    ) -> tuple[tuple[Delivery, ...], Cursor | None]:
        """List the deliveries to an endpoint, or to the URL that a job named; newest first.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, CURSOR_INVALID.
        """
        self._check_receiver(tenant, endpoint_id)
        if before is not None and before.epoch != self.epoch:
            raise SaccadeError(ErrorCode.CURSOR_INVALID)
        sequence = before.sequence if before else None
        found, following = self._ledger.deliveries.list(endpoint_id, state, limit, sequence)
        return found, None if following is None else Cursor(self.epoch, following)

    def attempts(self, tenant: str, endpoint_id: str, delivery: Cursor) -> tuple[Attempt, ...]:
        """List the attempts of a delivery, in order.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, DELIVERY_NOT_FOUND.
        """
        self._check_receiver(tenant, endpoint_id)
        self._check_delivery(endpoint_id, delivery)
        return self._ledger.deliveries.attempts(endpoint_id, delivery.sequence)

    async def redeliver(self, tenant: str, endpoint_id: str, what: Cursor | datetime, *, all_since: bool) -> None:
        """Have one event sent once more, or all that an endpoint takes after a cursor or since a moment.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, WEBHOOK_DISABLED, DELIVERY_NOT_FOUND, CURSOR_INVALID, BUS_UNAVAILABLE.
        """
        endpoint = self.endpoint(tenant, endpoint_id)
        if not endpoint.enabled:
            raise SaccadeError(ErrorCode.WEBHOOK_DISABLED)
        asked: dict[str, Any]
        if isinstance(what, datetime):
            asked = {"since_sequence": await self._parts.replay.sequence_before(what, Selection(tenant, None))}
        elif not all_since:
            self._check_delivery(endpoint_id, what)
            asked = {"sequences": [what.sequence]}
        elif what.epoch != self.epoch:
            raise SaccadeError(ErrorCode.CURSOR_INVALID, "The cursor is of a stream that is no more.")
        else:
            asked = {"since_sequence": what.sequence}
        if "sequences" not in asked:
            asked["until_sequence"] = await self._head()
        wish = WebhookRedeliveryRequested(endpoint_id=endpoint_id, **asked)
        await self._ledger.records.publish(
            encode(wish, tenant=tenant, subject_id=endpoint_id, source="/notifier", time=self._parts.now())
        )

    @property
    def epoch(self) -> str:
        """Name the incarnation of EVENTS that deliveries are of."""
        return self._ledger.file.events_epoch

    # -- checks

    def _check_url(self, url: str) -> None:
        check_url(url, https_only=self._parts.https_only, guard=self._parts.guard)

    def _check_receiver(self, tenant: str, receiver_id: str) -> None:
        if not (receiver_id.startswith(_JOB) and self._ledger.receivers.job_url(receiver_id, tenant)):
            self.endpoint(tenant, receiver_id)

    def _check_delivery(self, endpoint_id: str, delivery: Cursor) -> None:
        known = delivery.epoch == self.epoch and self._ledger.deliveries.delivery(endpoint_id, delivery.sequence)
        if not known:
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND)

    async def _put(self, endpoint: Endpoint, sequence: int) -> Endpoint:
        try:
            await self._endpoints.put(endpoint, sequence)
        except Conflict:
            raise SaccadeError(ErrorCode.WEBHOOK_CHANGED) from None
        return endpoint

    async def _head(self) -> int:
        return (await epoch_of(self._endpoints.store.client, EVENTS.name))[1]


def _rotated(secrets: tuple[EndpointSecret, ...], now: datetime, overlap: timedelta) -> tuple[EndpointSecret, ...]:
    """Put a new secret before those that have not expired; they expire after ``overlap``, or when they would have."""
    ends = now + overlap
    older = [
        replace(one, expires_at=ends if one.expires_at is None else min(ends, one.expires_at))
        for one in secrets
        if one.expires_at is None or one.expires_at > now
    ]
    kept = older[: MOST_SECRETS - 1] if overlap else []
    return (EndpointSecret(SecretStr(new_secret())), *kept)
