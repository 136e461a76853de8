"""Events of webhooks. Attempts are records in a separate stream; only ``webhook.disabled`` is a durable event."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.events.base import DURABLE, RECORD, EventData

#: Reason of a failed attempt; ``http_status`` means a response that is neither 2xx nor a redirect. Of an e-mail:
#: ``smtp_deferred`` and ``smtp_refused`` are replies of 4xx and 5xx to the message, ``smtp_auth_failed`` means that the
#: mail server refused the operator's user or password.
AttemptError = Literal[
    "timeout",
    "connect_failed",
    "tls_failed",
    "address_refused",
    "too_slow",
    "protocol_error",
    "redirected",
    "http_status",
    "smtp_deferred",
    "smtp_refused",
    "smtp_auth_failed",
    "email_not_configured",
]


class _Attempt(EventData):
    """Attempt to deliver one event to one endpoint, or to a job's own URL (``endpoint_id`` is the job's id)."""

    kind: ClassVar[Literal["evt", "prog", "dlv"]] = RECORD

    endpoint_id: str
    event_id: str
    event_type: str
    #: Id that the event is about.
    event_subject: str
    #: The event's sequence in EVENTS.
    sequence: int = Field(ge=1)
    #: The epoch of EVENTS in which it has this sequence; None in records of an earlier version.
    epoch: str | None = None
    #: From 1; redeliveries continue the count.
    attempt: int = Field(ge=1)
    #: Status of the HTTP response, or code of the mail server's reply.
    status: int | None = None
    latency_ms: float = Field(ge=0)
    #: First kilobyte of the response, as text.
    response_excerpt: str = ""
    #: Scheme, host and port; the path may hold a secret.
    url_origin: str
    #: ``webhook-timestamp`` and ``webhook-signature`` of the request; None for an e-mail, and in earlier records.
    signed_at: int | None = None
    signature: str | None = None


class WebhookDelivered(_Attempt):
    """The receiver responded with 2xx."""

    type: ClassVar[str] = "webhook.delivered"


class WebhookFailed(_Attempt):
    """The receiver did not accept the event."""

    type: ClassVar[str] = "webhook.failed"

    error: AttemptError
    #: None when no further attempt follows.
    next_attempt_at: AwareDatetime | None = None


class WebhookRedeliveryRequested(EventData):
    """A user requested events to be sent again: single events, or a range."""

    type: ClassVar[str] = "webhook.redelivery_requested"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = RECORD

    endpoint_id: str
    #: Sequences in EVENTS; None for a range.
    sequences: list[int] | None = None
    #: The epoch of EVENTS that the sequences belong to; None in requests of an earlier version.
    epoch: str | None = None
    since_sequence: int | None = None
    until_sequence: int | None = None


class ReplayDeliveryAttempted(EventData):
    """A replay has sent one event to its endpoint, the only time; the newest record of a replay is its checkpoint."""

    type: ClassVar[str] = "replay.delivery_attempted"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = RECORD

    endpoint_id: str
    event_id: str
    event_type: str
    #: Id that the event is about.
    event_subject: str
    #: The event's sequence in EVENTS.
    sequence: int = Field(ge=1)
    #: Status of the HTTP response.
    status: int | None = None
    #: None when the receiver responded with 2xx.
    error: AttemptError | None = None
    latency_ms: float = Field(ge=0)
    #: First kilobyte of the response, as text.
    response_excerpt: str = ""
    #: Scheme, host and port; the path may hold a secret.
    url_origin: str
    #: Events of the replay so far that the endpoint does not take, and attempts that failed, this one included.
    skipped: int = Field(ge=0)
    failed: int = Field(ge=0)


class WebhookDisabled(EventData):
    """An endpoint was disabled: it responded with 410 Gone, or all attempts have failed for days."""

    type: ClassVar[str] = "webhook.disabled"
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = DURABLE

    endpoint_id: str
    reason: Literal["gone", "failing"]
    #: Time of the 410 response, or of the first failure in a row.
    since: AwareDatetime
    last_status: int | None = None
