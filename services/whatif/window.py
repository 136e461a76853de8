"""RecordedWindow of recorded events that is replayed, with what is known from before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from contracts.events.base import Envelope, decode_at
from kit.bus.event_store import StoredEvent

#: Source of the dispatcher's own events.
DISPATCHER_SOURCE = "/dispatcher"


@dataclass(frozen=True)
class RecordedEvent:
    """One event of the stream, decoded."""

    stored: StoredEvent
    envelope: Envelope

    @property
    def sequence(self) -> int:
        """Return the event's sequence in the stream."""
        return self.stored.sequence

    @property
    def at(self) -> datetime:
        """Return the time at which its publisher decided it."""
        return self.envelope.time

    @property
    def by_dispatcher(self) -> bool:
        """Return whether a dispatcher published it."""
        return self.envelope.source == DISPATCHER_SOURCE

    @property
    def of_job(self) -> bool:
        """Return whether it is an event of a job."""
        return self.envelope.type.startswith("job.")


@dataclass(frozen=True)
class HoldChange:
    """From ``at`` on, jobs of these workloads are not launched; all, if the dispatcher is drained."""

    at: datetime
    drained: bool = False
    paused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class RecordedWindow:
    """Events of the window, those before it that its jobs need, and the settings that it was recorded with."""

    events: Sequence[RecordedEvent]
    before: Sequence[RecordedEvent] = ()
    #: All values of the dispatcher's settings when it was recorded, and the names of those that were set.
    recorded_settings: Mapping[str, Any] = field(default_factory=dict)
    explicit: frozenset[str] = frozenset()
    holds: Sequence[HoldChange] = ()
    #: Events that could not be decoded: their sequences.
    undecodable: tuple[int, ...] = ()

    @cached_property
    def begin(self) -> datetime:
        """Return the time of the first event."""
        return self.events[0].at

    @cached_property
    def end(self) -> datetime:
        """Return the latest time of an event."""
        return max(each.at for each in self.events)


def window_of(
    events: Iterable[StoredEvent],
    before: Iterable[StoredEvent] = (),
    *,
    recorded_settings: Mapping[str, Any] | None = None,
    explicit: Iterable[str] = (),
    holds: Sequence[HoldChange] = (),
) -> RecordedWindow:
    """Decode a window; an event that cannot be decoded is left out and named."""
    undecodable: list[int] = []
    return RecordedWindow(
        events=tuple(_decoded(events, undecodable)),
        before=tuple(_decoded(before, undecodable)),
        recorded_settings=dict(recorded_settings or {}),
        explicit=frozenset(explicit),
        holds=tuple(holds),
        undecodable=tuple(undecodable),
    )


def _decoded(events: Iterable[StoredEvent], undecodable: list[int]) -> Iterator[RecordedEvent]:
    for stored in events:
        try:
            yield RecordedEvent(stored, decode_at(stored.subject, stored.body))
        except ValueError:
            undecodable.append(stored.sequence)
