"""Sending of an example webhook, so that a user can test an endpoint."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from contracts.events.base import Envelope
from contracts.ids import new_id
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.sending.receiver import WebhookReceivers
from services.notifier.webhooks.sending.sender import Sender, SendResult


class ExampleSender:
    """Sends examples, outside of lanes and retries."""

    def __init__(
        self,
        endpoints: EndpointStore,
        receivers: WebhookReceivers,
        sender: Sender,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Send by ``sender``."""
        self._endpoints = endpoints
        self._receivers = receivers
        self._sender = sender
        self._now = now

    async def send(self, tenant: str, endpoint_id: str) -> SendResult:
        """Send an example to an endpoint, once and now, enabled or not.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND.
        """
        endpoint = self._endpoints.require(tenant, endpoint_id)
        example = Envelope(
            id=new_id("evt"),
            source="/notifier",
            type="webhook.test",
            subject=endpoint.id,
            time=self._now(),
            tenant=tenant,
            data={"message": "This is a test. A receiver that checks signatures should accept this one."},
        )
        body = example.model_dump_json(exclude_none=True).encode()
        request = self._receivers.signed_request(self._receivers.of_endpoint(endpoint), example.id, body)
        return await self._sender.send(request)
