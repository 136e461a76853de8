"""One event as a stream holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One stored event: its sequence in the stream, its subject and its bytes."""

    sequence: int
    subject: str
    body: bytes
    #: Headers of the message, and ``Nats-Time-Stamp``; empty unless requested.
    headers: Mapping[str, str] = field(default_factory=dict, compare=False)
    #: When the server stored it, as it wrote it; empty where no server told.
    timestamp: str = field(default="", compare=False)

    @property
    def stored_at(self) -> datetime | None:
        """When the server stored it, in microseconds."""
        return datetime.fromisoformat(self.timestamp) if self.timestamp else None


class Conflict(Exception):  # noqa: N818 - an expected result, not a fault
    """Another writer was first: read and decide again."""

    def __init__(self, subject: str, newest: int = 0) -> None:
        super().__init__(subject)
        #: Sequence that the next read reaches, if the server said it.
        self.newest = newest


class TooManyResults(Exception):  # noqa: N818 - an answer, not a fault: asking again gives the same
    """More subjects match than the server reads in one request (1,024)."""
