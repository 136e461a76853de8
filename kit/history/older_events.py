"""Events that the stream has deleted, for a tail that begins before them: they are in the archive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from kit.bus.event_store import StoredEvent
from kit.history.event_lines import HistoryEvent
from kit.history.history import History


def as_stored(event: HistoryEvent) -> StoredEvent:
    """Return an event of the history as the stream returned it."""
    return StoredEvent(event.sequence, event.subject, event.body, timestamp=event.timestamp)


class HistoryBeforeStream:
    """Older events of a stream, up to an age: that of the oldest that the stream would have without a limit of size."""

    def __init__(self, history: History, max_age_s: float) -> None:
        """Read from ``history`` what is not older than ``max_age_s``."""
        self._history = history
        self._max_age = timedelta(seconds=max_age_s)

    async def begin(self) -> int:
        """Return the sequence after which the events are young enough to be read; ``read`` raises for the others.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        return await self._history.sequence_before(datetime.now(UTC) - self._max_age, at_most=True)

    async def read(self, after: int, until: int) -> AsyncIterator[StoredEvent]:
        """Yield those after a sequence and up to another, in order.

        Raises:
            SegmentDamaged: a segment of the archive is missing, or was cut off or changed.
            SaccadeError: HISTORY_EXPIRED, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        async for event in self._history.read(after, until):
            yield as_stored(event)
