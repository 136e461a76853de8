"""Receivers of webhooks: an endpoint, or the URL that a job named, and the signed requests to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.deliveries.planner import lane_of_url, origin_of
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.secret_encryption import DecryptionError
from services.notifier.webhooks.sending.sender import WebhookRequest
from services.notifier.webhooks.signing import Signer, Signing


@dataclass(frozen=True)
class WebhookReceiver:
    """Destination of requests; ``endpoint`` is None for the URL that a job named."""

    id: str
    lane: str
    url: str
    secrets: tuple[EndpointSecret, ...]
    signing: Signing
    headers: Mapping[str, str]
    endpoint: Endpoint | None


class WebhookReceivers:
    """Finds receivers and builds the requests to them."""

    def __init__(
        self,
        receivers: ReceiverTables,
        endpoints: EndpointStore,
        signer: Signer,
        epoch: str,
        now: Callable[[], datetime],
    ) -> None:
        """Sign with ``signer``; ``epoch`` is that of the cursors in requests."""
        self._receivers = receivers
        self._endpoints = endpoints
        self._signer = signer
        self._epoch = epoch
        self._now = now

    async def find(self, tenant: str, receiver_id: str) -> WebhookReceiver | None:
        """Return a receiver by the id of its endpoint or job; None when nothing is sent to it any more.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
            DecryptionError: its signing secret was encrypted with another key.
        """
        if receiver_id.startswith("whk_"):
            endpoint = self._endpoints.active(tenant, receiver_id)
            return self.of_endpoint(endpoint) if endpoint else None
        if (url := self._receivers.active_job_url(receiver_id, tenant)) is None:
            return None
        if not (secrets := (await self._endpoints.default_secrets(tenant)).secrets):
            raise DecryptionError(f"the default secret of {tenant} was encrypted with another key, or changed")
        lane = lane_of_url(tenant, origin_of(url))
        return WebhookReceiver(receiver_id, lane, url, secrets, "v1", {}, None)

    def of_endpoint(self, endpoint: Endpoint) -> WebhookReceiver:
        """Return an endpoint as a receiver."""
        return WebhookReceiver(
            endpoint.id, endpoint.id, endpoint.url, endpoint.secrets, endpoint.signing, endpoint.headers, endpoint
        )

    def signed_request(self, receiver: WebhookReceiver, event_id: str, body: bytes) -> WebhookRequest:
        """Return a request with the event's own bytes, signed for the current second."""
        signed = self._signer.headers(event_id, body, receiver.secrets, receiver.signing, self._now())
        return WebhookRequest(receiver.url, {**receiver.headers, **signed}, body)

    def delivery_request(
        self, receiver: WebhookReceiver, delivery: PlannedDelivery, body: bytes, attempt: int
    ) -> WebhookRequest:
        """Return the signed request of one attempt, with the event's cursor and the attempt's number."""
        request = self.signed_request(receiver, delivery.event_id, body)
        position = {"saccade-cursor": f"{self._epoch}.{delivery.sequence}", "saccade-attempt": str(attempt)}
        return WebhookRequest(request.url, {**request.headers, **position}, body)
