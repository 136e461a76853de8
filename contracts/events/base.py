"""The envelope of every event: CloudEvents 1.0, structured JSON, encoded once by whoever publishes it.

The bytes made here are the bytes on NATS, in an SSE ``data:`` line and in a webhook's body.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict

from contracts.ids import new_id

#: Prefixes of the kinds of subject: durable facts, and advisory progress that may be conflated.
DURABLE: Literal["evt"] = "evt"
ADVISORY: Literal["prog"] = "prog"
#: Records of deliveries: kept apart from what happens, which they would swell and whose readers they do not concern.
RECORD: Literal["dlv"] = "dlv"
CONTENT_TYPE = "application/cloudevents+json"


class EventData(BaseModel):
    """Base of every event's data. Readers ignore fields they do not know, so that a field can be added."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: ``noun.past_tense``, set on every event class.
    type: ClassVar[str]
    #: The stream it goes to: durable facts, advisory progress or records of deliveries.
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
    """A CloudEvent. ``subject`` is the id of what the event is about.

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
        """Give the data as its event class.

        Raises:
            KeyError: the type is not known to this version.
            pydantic.ValidationError: the data is not of its class.
        """
        return EVENT_CLASSES[self.type].model_validate(self.data)


@dataclass(frozen=True)
class Message:
    """An event ready to publish."""

    subject: str
    id: str
    body: bytes


def subject_of(kind: str, tenant: str, noun: str, subject_id: str, verb: str) -> str:
    """Name the NATS subject of an event: ``saccade.evt.<tenant>.<noun>.<id>.<past_tense>``."""
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
    """Encode an event once. ``event_id`` is given wherever a retry may publish it again, so that it counts once."""
    envelope = Envelope(
        id=event_id or new_id("evt"),
        source=source,
        type=data.type,
        subject=subject_id,
        time=time or datetime.now(UTC),
        traceparent=traceparent,
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
    """Read an envelope.

    Raises:
        pydantic.ValidationError: the bytes are not one of our events.
    """
    return Envelope.model_validate_json(body)


def decode_at(subject: str, body: bytes) -> Envelope:
    """Read an envelope that came on a NATS subject, live copies' included, and see that both say the same.

    Rights are given by subject: a worker may publish on its own job's only, and what it writes there must not pass
    for an event of another.

    Raises:
        ValueError: the bytes are not one of our events, or not of this subject.
    """
    envelope = decode(body)
    noun, _, verb = envelope.type.partition(".")
    place = subject.removeprefix("live.")
    if place not in (
        subject_of(kind, envelope.tenant, noun, envelope.subject, verb) for kind in (DURABLE, ADVISORY, RECORD)
    ):
        raise ValueError(f"an event {envelope.type} of {envelope.subject} does not belong on {subject}")
    return envelope


@dataclass(frozen=True)
class Cursor:
    """The one cursor: the stream's incarnation (its epoch) and a sequence in it, as ``<epoch>.<sequence>``."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        """Write it as clients see it."""
        return f"{self.epoch}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``<epoch>.<sequence>``.

        Raises:
            ValueError: the text is not a cursor.
        """
        epoch, dot, sequence = text.strip().partition(".")
        if not (dot and epoch.isalnum() and sequence.isascii() and sequence.isdigit() and len(sequence) <= 19):
            raise ValueError(f"not a cursor: {text!r}")
        return cls(epoch, int(sequence))
