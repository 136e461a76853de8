"""Sending of an example webhook, so that a user can test an endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope
from contracts.ids import new_id
from services.notifier.keyed_slots import KeyedSlots
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.messages.formats import MessageText
from services.notifier.webhooks.messages.sentence import EXAMPLE_TYPE
from services.notifier.webhooks.sending.attempt_sender import AttemptSender
from services.notifier.webhooks.sending.receiver import WebhookReceivers
from services.notifier.webhooks.sending.sender import SendResult


@dataclass(frozen=True)
class ExampleResult:
    """Result of an example, and the message that was sent; None where the endpoint gets the event itself."""

    result: SendResult
    message: MessageText | None


#: Examples of one tenant that are sent at once, and that are sent or wait for that.
_AT_ONCE: Final = 2
_MOST_WAITING: Final = 20


class ExampleSender:
    """Sends examples, outside of lanes and retries: a few of each tenant at once."""

    def __init__(
        self,
        endpoints: EndpointStore,
        receivers: WebhookReceivers,
        sender: AttemptSender,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Send by ``sender``."""
        self._endpoints = endpoints
        self._receivers = receivers
        self._sender = sender
        self._now = now
        self._slots = KeyedSlots(_AT_ONCE)
        self._waiting: Counter[str] = Counter()

    async def send(self, tenant: str, endpoint_id: str) -> ExampleResult:
        """Send an example to an endpoint, once and now, enabled or not.

        Raises:
            SaccadeError: WEBHOOK_NOT_FOUND; RATE_LIMITED, while too many of the tenant's wait for their answer.
        """
        endpoint = self._endpoints.require(tenant, endpoint_id)
        example = Envelope(
            id=new_id("evt"),
            source="/notifier",
            type=EXAMPLE_TYPE,
            subject=endpoint.id,
            time=self._now(),
            tenant=tenant,
            data={"message": "This is a test. A receiver that checks signatures should accept this one."},
        )
        body = example.model_dump_json(exclude_none=True).encode()
        receiver = self._receivers.of_endpoint(endpoint)
        message = await self._receivers.message_of(endpoint, example) if endpoint.format != "cloudevents" else None
        request = await self._receivers.request_of(receiver, example.id, body)
        if self._waiting[tenant] >= _MOST_WAITING:
            raise SaccadeError(
                ErrorCode.RATE_LIMITED,
                f"{_MOST_WAITING} tests of your endpoints have not been answered yet.",
                hint="Wait for their answers, then send this one again.",
            )
        self._waiting[tenant] += 1
        try:
            async with self._slots.slot(tenant):
                return ExampleResult(await self._sender.send(request), message)
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant]
