"""Reads all events of one object, from the stream and the archive, for answers that the view cannot give yet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.errors import UNREADABLE_EVENTS, ErrorCode, SaccadeError
from contracts.ids import pipeline_id_of, time_of
from contracts.streams import aggregate
from kit.bus.event_store import EventStore, StoredEvent
from kit.history.history import History, HistoryEvent
from kit.history.older_events import as_stored

#: The clock of the process that made an id may be so much ahead of that of the bus.
_CLOCK_SLACK: Final = timedelta(hours=1)
#: What is created later than this after the time that its id holds (a job of uploads grouped for weeks) is looked up in
#: the view only.
_CREATED_WITHIN: Final = timedelta(days=8)
#: Verb of the first event of an object of each noun: without it, the rest cannot be folded.
BEGINS: Final = {"job": "submitted", "session": "opened", "upload": "created"}


async def events_of_id(
    history: History, subjects: Sequence[str], subject_id: str, after: int, until: int
) -> list[HistoryEvent]:
    """Return the events of an object between two sequences, in order, where nobody knows when it was created.

    An id that was made up must not cost a search of all that was ever stored.

    Raises:
        SaccadeError: HISTORY_EXPIRED, SEGMENT_DAMAGED, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
    """
    made_at = _made_at(subject_id)
    after = max(after, await history.sequence_before(made_at - _CLOCK_SLACK))
    created_until = min(until, await history.sequence_before(made_at + _CREATED_WITHIN))
    found = [event async for event in history.read(after, created_until, subjects)]
    if found and created_until < until:
        found += [event async for event in history.read(created_until, until, subjects)]
    return found


class OwnEvents:
    """The events of single objects, wherever they are stored today."""

    def __init__(self, store: EventStore, history: History) -> None:
        """Read the stream of ``store``, and what it has deleted from ``history``."""
        self._store, self._history = store, history

    async def read(self, noun: str, tenant: str, subject_id: str) -> list[StoredEvent]:
        """Return every event of an object that was stored before this call, in order; empty if there is none.

        Raises:
            SaccadeError: STARTING: only the view can tell, once it has caught up; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        subjects = aggregate(tenant, noun, subject_id)
        found = [stored async for stored in self._store.history(0, subjects)]
        if _is_whole(noun, found):
            return found
        bounds = await self._history.bounds()
        before = await self._history.sequence_before(_made_at(subject_id) - _CLOCK_SLACK)
        if not found and (bounds.first_in_stream <= 1 or before >= bounds.first_in_stream - 1):
            return []  # it would be in the stream
        try:
            older = await events_of_id(self._history, [subjects], subject_id, 0, bounds.last)
        except SaccadeError as error:
            if error.code in UNREADABLE_EVENTS:
                raise SaccadeError(ErrorCode.STARTING, f"The first events of the {noun} cannot be read.") from error
            raise
        found = [as_stored(event) for event in older]
        if not _is_whole(noun, found):
            message = f"It is not known yet whether there is such a {noun}: its history is being read."
            raise SaccadeError(ErrorCode.STARTING, message)
        return found


def _is_whole(noun: str, events: Sequence[StoredEvent]) -> bool:
    return bool(events) and events[0].subject.rpartition(".")[2] == BEGINS[noun]


def _made_at(subject_id: str) -> datetime:
    """Return when an id was made; of a stage's job, that of its pipeline. Clients write ids, also of the year 10889."""
    now = datetime.now(UTC)
    try:
        return min(time_of(pipeline_id_of(subject_id) or subject_id), now)
    except ValueError:
        return now
