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
