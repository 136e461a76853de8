"""The jobs and sessions that ended lately, whose late progress is dropped."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from kit.bus.event_store import StoredEvent
from services.notifier.streams.sse import ENDS, REOPENS
from services.notifier.webhooks.deliveries.planner import EventSubject

#: Ends that are remembered: progress is late by seconds at most, and this many jobs do not end in that time.
MOST: Final = 20_000


class EndedSubjects:
    """The subjects that ended last: progress comes by a subscription of its own and may come after the end.

    A client would show such a job as running again.
    """

    def __init__(self, most: int = MOST) -> None:
        """Remember the ends of up to ``most`` jobs and sessions."""
        self._most = most
        self._ended: OrderedDict[tuple[str, str], None] = OrderedDict()

    def on_event(self, stored: StoredEvent) -> None:
        """Take note of an event that ends a job or session, or reopens it."""
        if (about := EventSubject.of(stored.subject)) is None:
            return
        if about.type in ENDS:
            self._ended[about.tenant, about.subject_id] = None
            if len(self._ended) > self._most:
                self._ended.popitem(last=False)
        elif about.type in REOPENS:
            self._ended.pop((about.tenant, about.subject_id), None)

    def has(self, subject: str) -> bool:
        """Return whether the job or session of a NATS subject of progress has ended."""
        about = EventSubject.of(subject)
        return about is not None and (about.tenant, about.subject_id) in self._ended
