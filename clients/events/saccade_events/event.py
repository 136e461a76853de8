"""An event with its data as its class, read in one pass over the bytes."""

from __future__ import annotations

from typing import Any, Final, Generic, Self, TypeVar

from pydantic import PrivateAttr

from contracts.events.base import Envelope, EventData, subject_of

Data = TypeVar("Data", bound=EventData)
#: Header of an event that is at hand (Bus.handle): a message of JetStream's names its sequence itself.
SEQUENCE_HEADER: Final = "Nats-Sequence"


class Event(Envelope, Generic[Data]):
    """An event whose data was read as its class."""

    data: Data  # type: ignore[assignment]
    _sequence: int = PrivateAttr(default=0)

    @property
    def sequence(self) -> int:
        """Position of the event in its stream; 0 if it was given by hand without one."""
        return self._sequence

    def at(self, sequence: int) -> Self:
        """Set the position and return the event."""
        self._sequence = sequence
        return self


async def decode_event(event: type[Data], message: Any) -> Event[Data]:
    """Decode a message of FastStream's, and check that its event belongs to its subject.

    Permissions are granted by subject: a worker may publish only on its own job's subjects, and an event of another job
    on such a subject must be rejected. No header is read: the publisher sets them.

    Raises:
        ValueError: the bytes are not such an event, or belong to another subject.
    """
    decoded: Event[Data] = Event[event].model_validate_json(message.body)  # type: ignore[valid-type]
    noun, _, verb = event.type.partition(".")
    subject = message.raw_message.subject
    if decoded.type != event.type or subject != subject_of(event.kind, decoded.tenant, noun, decoded.subject, verb):
        raise ValueError(f"an event {decoded.type} of {decoded.subject} does not belong to {subject}")
    return decoded.at(_sequence_of(message.raw_message))


def _sequence_of(raw: Any) -> int:
    """Return the stream's sequence of a message; its headers count only if no server has delivered it."""
    if raw.reply:
        return int(raw.metadata.sequence.stream)
    return int((raw.headers or {}).get(SEQUENCE_HEADER, 0))
