"""The request of an attempt, as it was sent: built again from the event, with the signature that was recorded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from kit.network.urls import parse_url
from services.notifier.webhooks.deliveries.delivery import DeliveryAttempt
from services.notifier.webhooks.deliveries.delivery_service import DeliveryService
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.sending.receiver import WebhookReceiver
from services.notifier.webhooks.sending.sender import WebhookRequest, headers_of
from services.notifier.webhooks.webhook_delivery import WebhookDelivery


@dataclass(frozen=True)
class SentRequest:
    """A POST; ``headers`` in their order on the wire, with None for a value that is not shown."""

    url: str
    target: str
    headers: tuple[tuple[str, str | None], ...]
    body: str
    #: Nothing has changed since that would make it another one.
    exact: bool


class SentRequests:
    """Requests of the attempts of one notifier's deliveries."""

    def __init__(self, service: DeliveryService, endpoints: EndpointStore, delivery: WebhookDelivery) -> None:
        """Find attempts by ``service``; ``delivery`` has their events and receivers."""
        self._service = service
        self._endpoints = endpoints
        self._delivery = delivery

    async def find(self, tenant: str, receiver_id: str, delivery: Cursor, attempt: int) -> SentRequest:
        """Return the request of an attempt.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND, DELIVERY_NOT_FOUND, also for an e-mail and for an event that is no longer
                stored; BUS_UNAVAILABLE.
        """
        attempts = {made.attempt: made for made in self._service.attempts(tenant, receiver_id, delivery)}
        tracked = self._service.delivery(receiver_id, delivery)
        if attempt not in attempts:
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND, "The delivery has no such attempt.")
        receiver = await self._receiver(tenant, receiver_id)
        body = await self._delivery.recent_events.read_body(tracked.sequence)
        if receiver is None or body is None:
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND, "What the attempt has sent is no longer stored.")
        request = await self._delivery.receivers.delivery_request(receiver, tracked, body, attempt)
        if not isinstance(request, WebhookRequest) or not isinstance(request.body, bytes):
            raise SaccadeError(ErrorCode.DELIVERY_NOT_FOUND, "The attempt was no HTTP request.")
        return _sent(request, request.body, receiver, attempts[attempt])

    async def _receiver(self, tenant: str, receiver_id: str) -> WebhookReceiver | None:
        """Return a receiver, enabled or not; None for a job whose URL gets nothing any more."""
        if receiver_id.startswith("job_"):
            return await self._delivery.receivers.find(tenant, receiver_id)
        return self._delivery.receivers.of_endpoint(self._endpoints.require(tenant, receiver_id))


def _sent(request: WebhookRequest, body: bytes, receiver: WebhookReceiver, attempt: DeliveryAttempt) -> SentRequest:
    if attempt.signed_at is not None and attempt.signature is not None:
        signed = {"webhook-timestamp": str(attempt.signed_at), "webhook-signature": attempt.signature}
        request = replace(request, headers={**request.headers, **signed})
    url = parse_url(request.url)
    host = url.as_written.host_port_subcomponent or url.host
    hidden = {name.lower() for name in receiver.headers}
    sent = [(name, None if name in hidden else value) for name, value in headers_of(request).items()]
    # The client that sends it puts these around them.
    around = (("Accept", "*/*"), ("Content-Length", str(len(body))))
    changed = receiver.endpoint is not None and receiver.endpoint.updated_at > attempt.at
    return SentRequest(
        request.url,
        url.as_written.raw_path_qs,
        (("Host", host), *sent, *around),
        body.decode(errors="replace"),
        exact=attempt.signature is not None and not changed,
    )
