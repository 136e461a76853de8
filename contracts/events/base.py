"""Envelope of every event: CloudEvents 1.0 in structured JSON, encoded once by the publisher.

The same bytes are sent on NATS, in an SSE ``data:`` line and in the body of a webhook.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.ids import new_id
from contracts.trace_context import CURRENT

#: Kinds of events, which are prefixes of their subjects: durable facts, and advisory progress that may be conflated.
DURABLE: Literal["evt"] = "evt"
ADVISORY: Literal["prog"] = "prog"
#: Records of webhook deliveries, in a separate stream: other readers do not need them.
RECORD: Literal["dlv"] = "dlv"
CONTENT_TYPE = "application/cloudevents+json"
#: Entry of an envelope's ``__dict__``, beside its fields: they alone are compared and encoded.
_PARSED: Final = "_parsed"


class EventData(BaseModel):
    """Base class of every event's data. Readers ignore unknown fields, so fields can be added."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: ``noun.past_tense``, set on every event class.
    type: ClassVar[str]
    #: Selects the stream: durable facts, advisory progress or records of deliveries.
    kind: ClassVar[Literal["evt", "prog", "dlv"]] = DURABLE

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register each concrete event class by its type."""
        super().__pydantic_init_subclass__(**kwargs)
        if "type" in cls.__dict__:
            EVENT_CLASSES[cls.type] = cls


#: Every event class by its type.
EVENT_CLASSES: dict[str, type[EventData]] = {}


class Envelope(BaseModel):
    """CloudEvent. ``subject`` is the id of the upload, job, session or endpoint that the event is about.

    Source: CloudEvents 1.0.2, JSON event format; ``traceparent`` is its distributed tracing extension.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: Literal["1.0"] = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: AwareDatetime
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: str | None = None
    tenant: str
    data: dict[str, Any]

    def parsed(self) -> EventData:
        """Return the data as its event class; parsed once, because several readers of an event ask for it.

        Raises:
            KeyError: the type is unknown to this version.
            pydantic.ValidationError: the data does not match its class.
        """
        # A copy with other data has the same entry: it holds for the data that it was made of.
        known: tuple[dict[str, Any], EventData] | None = self.__dict__.get(_PARSED)
        if known is not None and known[0] is self.data:
            return known[1]
        parsed = EVENT_CLASSES[self.type].model_validate(self.data)
        self.__dict__[_PARSED] = self.data, parsed
        return parsed


@dataclass(frozen=True)
class Message:
    """Encoded event, ready to publish."""

    subject: str
    id: str
    body: bytes


def subject_of(kind: str, tenant: str, noun: str, subject_id: str, verb: str) -> str:
    """Return the NATS subject of an event: ``saccade.evt.<tenant>.<noun>.<id>.<past_tense>``."""
    return f"saccade.{kind}.{tenant}.{noun}.{subject_id}.{verb}"


def encode(
    data: EventData,
    *,
    tenant: str,
    subject_id: str,
    source: str,
    event_id: str | None = None,
    time: datetime | None = None,
    traceparent: str | None = None,
) -> Message:
    """Encode an event. Pass ``event_id`` if a retry may publish the event again, so that it is stored once.

    Without ``traceparent`` it gets the context of the request that is being answered, if there is one.
    """
    envelope = Envelope(
        id=event_id or new_id("evt"),
        source=source,
        type=data.type,
        subject=subject_id,
        time=time or datetime.now(UTC),
        traceparent=traceparent or CURRENT.get(),
        tenant=tenant,
        data=data.model_dump(mode="json"),
    )
    noun, _, verb = data.type.partition(".")
    return Message(
        subject=subject_of(data.kind, tenant, noun, subject_id, verb),
        id=envelope.id,
        body=envelope.model_dump_json(exclude_none=True).encode(),
    )


def decode(body: bytes) -> Envelope:
    """Decode an envelope.

    Raises:
        pydantic.ValidationError: the bytes are not a valid event.
    """
    return Envelope.model_validate_json(body)


def decode_at(subject: str, body: bytes) -> Envelope:
    """Decode an envelope received on a NATS subject or its live copy, and check that the subject matches.

    Permissions are granted by subject: a worker may publish only on its own job's subjects, and an event of another job
    on such a subject must be rejected.

    Raises:
        ValueError: the bytes are not a valid event, or belong to another subject.
    """
    envelope = decode(body)
    place = subject.removeprefix("live.")
    # Nearly every event is a durable one.
    if place != _own_subject(DURABLE, envelope) and place not in (
        _own_subject(ADVISORY, envelope),
        _own_subject(RECORD, envelope),
    ):
        raise ValueError(f"an event {envelope.type} of {envelope.subject} does not belong to {subject}")
    return envelope


def decode_at_kind(kind: str, subject: str, body: bytes) -> Envelope:
    """Decode an envelope stored on a subject of one kind, and check that the subject matches.

    Raises:
        ValueError: the bytes are not a valid event, or belong to another subject.
    """
    envelope = decode(body)
    if subject != _own_subject(kind, envelope):
        raise ValueError(f"a record {envelope.type} of {envelope.subject} does not belong to {subject}")
    return envelope


def _own_subject(kind: str, envelope: Envelope) -> str:
    noun, _, verb = envelope.type.partition(".")
    return subject_of(kind, envelope.tenant, noun, envelope.subject, verb)


#: A cursor, for OpenAPI and validation. 18 digits: a larger number would not fit into the 64 bits of a sequence.
CURSOR_PATTERN: Final = r"^[A-Za-z0-9]{1,64}\.[0-9]{1,18}$"


@dataclass(frozen=True)
class Cursor:
    """Position in the event stream: the stream's incarnation (epoch) and a sequence, as ``<epoch>.<sequence>``."""

    epoch: str
    sequence: int
    #: The text that a client sent, which ``gap.after`` repeats.
    sent: str = field(default="", compare=False)

    def __str__(self) -> str:
        """Return the text form that clients use; of a parsed cursor, the text itself."""
        return self.sent or f"{self.epoch}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``<epoch>.<sequence>``.

        Raises:
            ValueError: the text is not a cursor.
        """
        if not re.fullmatch(CURSOR_PATTERN, text.strip()):
            raise ValueError(f"not a cursor: {text!r}")
        epoch, _, sequence = text.strip().partition(".")
        return cls(epoch, int(sequence), text)
