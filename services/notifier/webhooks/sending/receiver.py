"""Receivers of webhooks: an endpoint, or the URL that a job named, and the signed requests to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from contracts.errors import SaccadeError
from contracts.events.base import Envelope, decode
from contracts.events.job import JobSubmitted
from contracts.trace_context import context_within, parse_traceparent
from contracts.workload import Workload
from modal_workers.catalog import workload
from services.notifier.webhooks.deliveries.delivery import PlannedDelivery
from services.notifier.webhooks.deliveries.planner import lane_of_url, origin_of
from services.notifier.webhooks.deliveries.receiver_tables import ReceiverTables
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.secret_encryption import DecryptionError
from services.notifier.webhooks.messages.email_message import EmailContent
from services.notifier.webhooks.messages.formats import MessageText, message_body
from services.notifier.webhooks.messages.values import MessageEndpoint, compose_message
from services.notifier.webhooks.sending.attempt_sender import AttemptRequest
from services.notifier.webhooks.sending.sender import WebhookRequest
from services.notifier.webhooks.sending.smtp_sender import EmailRequest
from services.notifier.webhooks.sending.submissions import Submissions
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
    tenant: str


class WebhookReceivers:
    """Finds receivers and builds the requests to them."""

    def __init__(
        self,
        receivers: ReceiverTables,
        endpoints: EndpointStore,
        signer: Signer,
        *,
        submissions: Submissions,
        epoch: str,
        now: Callable[[], datetime],
    ) -> None:
        """Sign with ``signer``; ``epoch`` is that of the cursors in requests. Messages name ``submissions``."""
        self._submissions = submissions
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
        return WebhookReceiver(receiver_id, lane, url, secrets, "v1", {}, None, tenant)

    def of_endpoint(self, endpoint: Endpoint) -> WebhookReceiver:
        """Return an endpoint as a receiver."""
        return WebhookReceiver(
            endpoint.id,
            endpoint.id,
            endpoint.url,
            endpoint.secrets,
            endpoint.signing,
            endpoint.headers,
            endpoint,
            endpoint.tenant,
        )

    async def request_of(self, receiver: WebhookReceiver, event_id: str, event: bytes) -> AttemptRequest:
        """Return a request: with the event's own bytes, or a message about it; by HTTP signed for the current second.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, where a message names what is in the archive.
            ValueError: the event cannot be decoded.
        """
        body, content_type, endpoint = event, "application/json", receiver.endpoint
        if endpoint is not None and endpoint.format != "cloudevents":
            message = await self.message_of(endpoint, decode(event))
            if endpoint.format == "email":
                content = EmailContent(message, event_id, endpoint.id, endpoint.description)
                return EmailRequest(receiver.url, content)
            body, content_type = message_body(endpoint.format, message.text)
        sent = self._signer.headers(event_id, body, receiver.secrets, receiver.signing, self._now())
        if traceparent := context_within(traceparent_of(event)):
            sent = {**sent, "traceparent": traceparent}
        headers = {**receiver.headers, **sent}
        return WebhookRequest(receiver.url, headers, body, content_type=content_type, tenant=receiver.tenant)

    async def message_of(self, endpoint: Endpoint, event: Envelope) -> MessageText:
        """Return the message of an endpoint about an event.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        job = await self._submissions.of(event)
        template = MessageEndpoint(endpoint.id, endpoint.description, endpoint.template, endpoint.subject)
        return compose_message(event, template, _workload_of(job), job)

    async def delivery_request(
        self, receiver: WebhookReceiver, delivery: PlannedDelivery, body: bytes, attempt: int
    ) -> AttemptRequest:
        """Return the request of one attempt; by HTTP with the event's cursor and the attempt's number."""
        request = await self.request_of(receiver, delivery.event_id, body)
        if isinstance(request, EmailRequest):
            return request
        position = {"saccade-cursor": f"{self._epoch}.{delivery.sequence}", "saccade-attempt": str(attempt)}
        return replace(request, headers={**request.headers, **position})


def traceparent_of(event: bytes) -> str | None:
    """Return the trace context of an encoded event; None if it has none that is valid."""
    if b'"traceparent"' not in event:
        return None
    try:
        found = json.loads(event).get("traceparent")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and parse_traceparent(found) else None


def _workload_of(job: JobSubmitted | None) -> Workload | None:
    try:
        return workload(job.workload) if job else None
    except SaccadeError:  # of another version
        return None
