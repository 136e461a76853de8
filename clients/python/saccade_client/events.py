"""Items of an event stream: events, gaps and snapshots. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from saccade_client.sse import SseBlock

#: Types that end a job or session. After ``job.failed`` a retry may follow: ``job.retrying``.
ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled", "session.stopped", "session.failed"})


@dataclass(frozen=True)
class Event:
    """One event. Only durable events have a ``cursor``; progress has none and is not replayed."""

    type: str
    cursor: str | None
    #: The event's bytes as they were published.
    body: bytes
    #: The body as JSON: a CloudEvents envelope, or the fields of a gap or a snapshot.
    envelope: dict[str, Any]

    @property
    def id(self) -> str | None:
        """The event's id, the same in SSE, webhooks and WebSockets."""
        return self._text("id")

    @property
    def subject(self) -> str | None:
        """The id of the job, session, upload or endpoint."""
        return self._text("subject")

    @property
    def time(self) -> str | None:
        """When it happened (RFC 3339)."""
        return self._text("time")

    @property
    def data(self) -> dict[str, Any]:
        """The payload without its envelope."""
        data = self.envelope.get("data")
        return data if isinstance(data, dict) else self.envelope

    def _text(self, name: str) -> str | None:
        value = self.envelope.get(name) if "specversion" in self.envelope else None
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Gap(Event):
    """Events were lost to retention; a job's stream continues with a ``Snapshot``."""

    @property
    def after(self) -> str | None:
        """The cursor after which events are missing; None when they are missing from the start."""
        after = self.envelope.get("after")
        return after if isinstance(after, str) else None

    @property
    def first_available(self) -> str | None:
        """The cursor of the first event that is still stored."""
        first = self.envelope.get("first_available")
        return first if isinstance(first, str) else None


@dataclass(frozen=True)
class Snapshot(Event):
    """State of a job after a gap; unknown fields are None."""

    @property
    def subject(self) -> str | None:
        """The job's id."""
        job_id = self.envelope.get("id")
        return job_id if isinstance(job_id, str) else None

    @property
    def state(self) -> str | None:
        """The job's state."""
        state = self.envelope.get("state")
        return state if isinstance(state, str) else None


_STREAM_ITEMS: Final[dict[str, type[Event]]] = {"gap": Gap, "snapshot": Snapshot}


def parse_event(block: SseBlock) -> Event:
    """Parse the event of a block.

    Raises:
        ValueError: its data is not a JSON object.
    """
    envelope = json.loads(block.text)
    if not isinstance(envelope, dict):
        raise ValueError("An event is a JSON object.")  # noqa: TRY004 - the text is wrong, not a type
    cursor = block.id or None
    kind = _STREAM_ITEMS.get(block.event, Event) if cursor is None else Event
    return kind(block.event, cursor, block.body, envelope)


def matches_types(types: frozenset[str], event: Event) -> bool:
    """Check whether an event has one of these types (``job.succeeded``, ``job.*``); gaps and snapshots always match."""
    if not types or isinstance(event, (Gap, Snapshot)):
        return True
    return event.type in types or f"{event.type.partition('.')[0]}.*" in types
