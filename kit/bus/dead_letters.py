"""Dead letters: events that a handler could not process, in the stream DEADLETTERS, with the reason in the headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.event_store import EventStore, StoredEvent

_BATCH: Final = 200


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter."""

    #: Sequence in DEADLETTERS.
    number: int
    time: datetime | None
    #: Stream of the event, and the consumer that could not handle it.
    stream: str
    consumer: str
    #: Sequence and subject of the event.
    sequence: int
    subject: str
    #: How often the consumer got it; a fold gets every event once.
    deliveries: int
    error: str
    body: bytes

    @property
    def tenant(self) -> str:
        """Tenant of the event; empty if its subject names none."""
        return self._part(2)

    @property
    def noun(self) -> str:
        """Noun of the event's aggregate; empty if its subject names none."""
        return self._part(3)

    @property
    def subject_id(self) -> str:
        """Id of the event's aggregate; empty if its subject names none."""
        return self._part(4)

    def _part(self, index: int) -> str:
        parts = self.subject.split(".")
        return parts[index] if len(parts) > index else ""


def parse_dead_letter(stored: StoredEvent) -> DeadLetter:
    """Return a dead letter; ``stored`` was read with its headers."""
    headers = stored.headers
    _, _, stream, consumer = [*stored.subject.split(".", 3), "", "", ""][:4]
    time = headers.get("Nats-Time-Stamp")
    return DeadLetter(
        number=stored.sequence,
        time=datetime.fromisoformat(time) if time else None,
        stream=stream,
        consumer=consumer,
        sequence=_number(headers.get("Saccade-Sequence")),
        subject=headers.get("Saccade-Subject", ""),
        deliveries=_number(headers.get("Saccade-Deliveries")) or 1,
        error=headers.get("Saccade-Error", ""),
        body=stored.body,
    )


class DeadLetters:
    """The stream DEADLETTERS."""

    def __init__(self, store: EventStore) -> None:
        """``store`` is that of the stream DEADLETTERS."""
        self._store = store

    async def all(self) -> AsyncIterator[DeadLetter]:
        """Yield every dead letter, oldest first.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        after, remaining = 0, 1
        while remaining:
            found, remaining = await self._store.batch(after, size=_BATCH, with_headers=True)
            for stored in found:
                after = stored.sequence
                yield parse_dead_letter(stored)
            if not found:
                return

    async def get(self, number: int) -> DeadLetter:
        """Return one dead letter.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_FOUND, BUS_UNAVAILABLE.
        """
        found, _ = await self._store.batch(number - 1, size=1, with_headers=True)
        if not found or found[0].sequence != number:
            raise SaccadeError(ErrorCode.DEAD_LETTER_NOT_FOUND, f"There is no dead letter {number}.")
        return parse_dead_letter(found[0])


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
