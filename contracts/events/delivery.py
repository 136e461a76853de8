"""What becomes of webhooks. Attempts are records in a stream of their own; only ``webhook.disabled`` is an event."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.events.base import DURABLE, RECORD, EventData

#: Why an attempt failed; ``http_status`` is an answer that is neither 2xx nor a redirect.
AttemptError = Literal[
    "timeout",
    "connect_failed",
    "tls_failed",
    "address_refused",
    "too_slow",
    "protocol_error",
    "redirected",
    "http_status",
]


class _Attempt(EventData):
    """One attempt to deliver one event to one endpoint (or to the URL that a job named: then the job's id)."""

    kind: ClassVar[Literal["evt", "prog", "dlv"]] = RECORD

    endpoint_id: str
    event_id: str
    event_type: str
    #: What the event is about.
    event_subject: str
    #: The event's sequence in EVENTS.
    sequence: int = Field(ge=1)
    #: From 1; a redelivery counts on.
    attempt: int = Field(ge=1)
    status: int | None = None
    latency_ms: float = Field(ge=0)
    #: The first kilobyte of the answer, as text.
    response_excerpt: str = ""
    #: Scheme, host and port; the path may hold a secret.
    url_origin: str


class WebhookDelivered(_Attempt):
    """The receiver answered 2xx."""

    type: ClassVar[str] = "webhook.delivered"


class WebhookFailed(_Attempt):
    """The receiver did not take the event."""

    type: ClassVar[str] = "webhook.failed"

    error: AttemptError
    #: None: it is given up.
    next_attempt_at: AwareDatetime | None = None


class WebhookRedeliveryRequested(EventData):
    """Somebody asked for events to be sent once more: some, or all after one and up to another."""

    type: ClassVar[str] = "webhook.redelivery_requested"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = RECORD

    endpoint_id: str
    #: Sequences in EVENTS; None for a range.
    sequences: list[int] | None = None
    since_sequence: int | None = None
    until_sequence: int | None = None


class WebhookDisabled(EventData):
    """Nothing is sent to an endpoint any more: it answered 410 Gone, or has only failed for days."""

    type: ClassVar[str] = "webhook.disabled"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = DURABLE

    endpoint_id: str
    reason: Literal["gone", "failing"]
    #: When it answered so, or since when it has failed.
    since: AwareDatetime
    last_status: int | None = None
