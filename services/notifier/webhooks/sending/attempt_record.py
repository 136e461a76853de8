"""Record of an attempt as it is published to DELIVERIES: ``webhook.delivered`` or ``webhook.failed``. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from contracts.events.base import Message, encode
from contracts.events.delivery import WebhookDelivered, WebhookFailed
from services.notifier.webhooks.deliveries.delivery import TrackedDelivery
from services.notifier.webhooks.deliveries.planner import origin_of
from services.notifier.webhooks.deliveries.retry_schedule import next_delay_s
from services.notifier.webhooks.sending.attempt_sender import AttemptRequest
from services.notifier.webhooks.sending.sender import SendResult, WebhookRequest


def attempt_record(
    delivery: TrackedDelivery,
    request: AttemptRequest,
    result: SendResult,
    now: datetime,
    chance: float,
    *,
    epoch: str | None = None,
) -> Message:
    """Return the record of an attempt to send ``delivery`` by ``request``; ``chance`` in 0..1 spreads the next attempt.

    ``epoch`` is that of the event's sequence.

    Its event id is derived from endpoint, event and attempt: stored twice, it counts once.
    """
    attempt = delivery.attempts + 1
    fields: dict[str, Any] = {
        "endpoint_id": delivery.endpoint_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "event_subject": delivery.event_subject,
        "sequence": delivery.sequence,
        "epoch": epoch,
        "attempt": attempt,
        "status": result.status,
        "latency_ms": result.latency_ms,
        "response_excerpt": result.excerpt,
        "url_origin": origin_of(request.url),
    }
    if isinstance(request, WebhookRequest):
        fields["signed_at"] = int(request.headers["webhook-timestamp"])
        fields["signature"] = request.headers["webhook-signature"]
    data: WebhookDelivered | WebhookFailed
    if result.error is None:
        data = WebhookDelivered(**fields)
    else:
        delay_s = next_delay_s(
            attempt - delivery.scheduled_from,
            status=result.status,
            error=result.error,
            retry_after_s=result.retry_after_s,
            chance=chance,
        )
        next_attempt_at = None if delay_s is None else now + timedelta(seconds=delay_s)
        data = WebhookFailed(**fields, error=result.error, next_attempt_at=next_attempt_at)
    return encode(
        data,
        tenant=delivery.tenant,
        subject_id=delivery.endpoint_id,
        source="/notifier",
        event_id=f"{delivery.endpoint_id}.{delivery.event_id}.{attempt}",
        time=now,
    )
