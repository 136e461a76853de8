"""Newest event of each type of one job or session, and the state that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.events.base import decode
from contracts.events.session import SessionReady
from contracts.job import Job, State
from contracts.session import Session
from services.notifier.streams.sse import BEGINS, ENDS, REOPENS, StreamEvent


@dataclass(frozen=True)
class AggregateHistory:
    """Events of one job or session, in the order of the stream; at least one."""

    events: list[StreamEvent]
    state: Job | Session | None
    #: Some of the events are in the archive only.
    archived: bool = False

    @property
    def ended_at(self) -> int | None:
        """Sequence of the event that ended it; None while it is running."""
        turns = [event for event in self.events if event.type in ENDS or event.type in REOPENS]
        return turns[-1].sequence if turns and turns[-1].type in ENDS else None

    @property
    def complete(self) -> bool:
        """Whether its first event, and so all of them, are still in the stream."""
        return not self.archived and self.events[0].type in BEGINS

    @property
    def begin(self) -> int | None:
        """Sequence before its first event; None if that is not known."""
        return self.events[0].sequence - 1 if self.events[0].type in BEGINS else None

    @property
    def run_id(self) -> str | None:
        """Run whose newest progress is current; None when none is running."""
        if isinstance(self.state, Job):
            return self.state.run_id if self.state.state is State.RUNNING else None
        ready = [event for event in self.events if event.type == SessionReady.type]
        if self.ended_at is not None or not ready:
            return None
        run_id = decode(ready[-1].body).data.get("run_id")
        return run_id if isinstance(run_id, str) else None
