"""What an event stream gives: events, and what the stream says of itself. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from saccade.sse import SseBlock

#: Types with which a job or session ends. A failed job may go on once more: ``job.retrying``.
ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled", "session.stopped", "session.failed"})


@dataclass(frozen=True)
class Event:
    """One event. ``cursor`` stands on durable events only: progress is told once, as it is at the time."""

    type: str
    cursor: str | None
    #: The event's bytes as they were published.
    body: bytes
    #: The body as JSON: a CloudEvents envelope, or the fields of a gap or a snapshot.
    envelope: dict[str, Any]

    @property
    def id(self) -> str | None:
        """Give the event's id, the same on every way that it comes."""
        return self._text("id")

    @property
    def subject(self) -> str | None:
        """Give the id of what the event is about."""
        return self._text("subject")

    @property
    def time(self) -> str | None:
        """Give when it happened (RFC 3339)."""
        return self._text("time")

    @property
    def data(self) -> dict[str, Any]:
        """Give what the event says, without its envelope."""
        data = self.envelope.get("data")
        return data if isinstance(data, dict) else self.envelope

    def _text(self, name: str) -> str | None:
        value = self.envelope.get(name) if "specversion" in self.envelope else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Gap(Event):
    """Events were lost to retention; for a job, a ``Snapshot`` follows and says where it stands."""

    @property
    def after(self) -> str | None:
        """Give the cursor after which events are missing; None when they are missing from the start."""
        after = self.envelope.get("after")
        return after if isinstance(after, str) else None

    @property
    def first_available(self) -> str | None:
        """Give the cursor of the first event that is left."""
        first = self.envelope.get("first_available")
        return first if isinstance(first, str) else None


@dataclass(frozen=True)
class Snapshot(Event):
    """A job as it stands after a gap; what is unknown is None."""

    @property
    def subject(self) -> str | None:
        """Give the job's id."""
        job_id = self.envelope.get("id")
        return job_id if isinstance(job_id, str) else None

    @property
    def state(self) -> str | None:
        """Give the job's state."""
        state = self.envelope.get("state")
        return state if isinstance(state, str) else None


_OF_THE_STREAM: Final[dict[str, type[Event]]] = {"gap": Gap, "snapshot": Snapshot}


def parse_event(block: SseBlock) -> Event:
    """Read an event from a block of a stream.

    Raises:
        ValueError: its data is not a JSON object.
    """
    envelope = json.loads(block.body)
    if not isinstance(envelope, dict):
        raise ValueError("An event is a JSON object.")  # noqa: TRY004 - the text is wrong, not a type
    kind = _OF_THE_STREAM.get(block.event, Event) if block.id is None else Event
    return kind(block.event, block.id, block.body, envelope)


def matches_types(types: frozenset[str], event: Event) -> bool:
    """Tell whether an event is of types like ``job.succeeded`` or ``job.*``; a gap is of any."""
    if not types or isinstance(event, (Gap, Snapshot)):
        return True
    return event.type in types or f"{event.type.partition('.')[0]}.*" in types
