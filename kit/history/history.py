"""History of a stream of events: ranges, states as of a sequence, counts, wherever the events are stored today.

What the stream still has is read from it; what is older, from its archive in the bucket, if there is one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import time_of
from kit.bus.event_store import EventStore
from kit.bus.lineage import Lineage
from kit.history.archive_reader import ArchiveReader
from kit.history.event_lines import HistoryEvent
from kit.history.stream_reader import BATCH_EVENTS, StreamReader, StreamState
from kit.history.subjects import subject_id_in

__all__ = ["Bounds", "History", "HistoryEvent"]

#: Most that the clock of the machine that made an id is ahead of the server that stored its first event.
_CLOCK_SKEW: Final = timedelta(minutes=10)


@dataclass(frozen=True)
class Bounds:
    """Sequences that can be read."""

    #: First that can be read, and first that the stream still has; one more than ``last`` if there is none.
    first: int
    first_in_stream: int
    last: int
    #: Epoch of the stream today, the current one of its lineage.
    epoch: str
    lineage: Lineage


class History:
    """Reads the events of a stream. Memory is bounded whatever the range."""

    def __init__(self, store: EventStore, archive: ArchiveReader | None = None) -> None:
        """Read the stream of ``store``, and before its first event the archive."""
        self._stream = StreamReader(store)
        self._archive = archive

    async def bounds(self) -> Bounds:
        """Return which sequences can be read now.

        Raises:
            SaccadeError: BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, if nobody can say where the archive begins.
        """
        state = await self._stream.state()
        archived = await self._archive.first(state.lineage) if self._archive and state.first > 1 else None
        first = state.first if archived is None else min(archived, state.first)
        return Bounds(first, state.first, state.last, state.lineage.current.id, state.lineage)

    async def first_in_stream(self) -> int:
        """Return the first sequence that the stream still has; one more than the last if there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return (await self._stream.state()).first

    async def read(
        self,
        after: int,
        until: int,
        subjects: Sequence[str] = (">",),
        *,
        batch_events: Callable[[], int] = lambda: BATCH_EVENTS,
    ) -> AsyncGenerator[HistoryEvent, None]:
        """Yield the events after a sequence and up to another that match one of ``subjects``, in order.

        ``batch_events`` says before each request to the stream how many events it asks for.

        Raises:
            SegmentDamaged: a segment of the archive is missing, or was cut off or changed.
            SaccadeError: HISTORY_EXPIRED: some are not stored any more (``bounds`` tells from where on they are);
                BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        state, position = await self._stream.state(), after
        until = min(until, state.last)
        while position < until:
            if position + 1 < state.first:
                end = min(until, state.first - 1)
                async for event in self._archived(state, position, end, subjects):
                    yield event
                position, state = end, await self._stream.state()
                continue
            size = min(batch_events(), until - position)
            events, read_to = await self._stream.batch(position, subjects, size, until=until)
            state = await self._stream.state()
            if position + 1 < state.first:
                continue  # retention deleted events while they were read: they are in the archive by now
            for event in events:
                if event.sequence > until:
                    return
                yield event
            position = until if read_to is None else read_to

    async def first(self, after: int, until: int, subjects: Sequence[str] = (">",)) -> HistoryEvent | None:
        """Return the first event after a sequence and up to another that matches; None if there is none.

        Raises:
            SaccadeError: as ``read``.
        """
        async with aclosing(self.read(after, until, subjects)) as events:
            async for event in events:
                return event
        return None

    async def read_each(self, begins: Mapping[str, int], until: int) -> list[HistoryEvent]:
        """Return the events up to a sequence that match one of several filters; those of each filter in order.

        ``begins`` has for each filter a sequence after which all events are that it matches; no two match the same one.

        Raises:
            SegmentDamaged, SaccadeError: as ``read``.
        """
        first = (await self._stream.state()).first
        while True:
            archived_until = min(until, first - 1)
            older = [subjects for subjects, after in begins.items() if after < archived_until]
            found: list[HistoryEvent] = []
            if older:
                begin = min(begins[subjects] for subjects in older)
                found = [event async for event in self.read(begin, archived_until, older)]
            rest = {subjects: max(after, archived_until) for subjects, after in begins.items()}
            found += await self._stream.batches({key: after for key, after in rest.items() if after < until}, until)
            now = (await self._stream.state()).first
            if now == first or now <= min(rest.values(), default=now) + 1:
                return found
            first = now  # retention deleted events while they were read: they are in the archive by now

    async def newest(self, subjects: Sequence[str], until: int) -> list[HistoryEvent] | None:
        """Return the newest event at or before a sequence of each subject that matches a filter and is in the stream.

        None in a cluster, where the replica that answers may lack some.

        Raises:
            TooManyResults: they are too many for one request.
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self._stream.newest(subjects, until)

    async def as_of(self, subjects: str, sequence: int, *, after: int = 0) -> list[HistoryEvent]:
        """Return the newest event of each subject at or before a sequence, and after another, in order.

        Reads the archive if any such event may be in it: for the subjects of one id from the time that the id holds,
        else from ``after`` on.

        Raises:
            TooManyResults: the subjects are too many for one request.
            SegmentDamaged: a segment of the archive is missing, or was cut off or changed.
            SaccadeError: HISTORY_EXPIRED, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        state = await self._stream.state()
        newest: dict[str, HistoryEvent] = {}
        if sequence + 1 < state.first and self._archive is None:
            await self._require_archived(state, after, sequence)
        begin = await self._begin_of(subjects, state, after)
        if self._archive and begin + 1 < state.first and begin < sequence:
            async for event in self.read(begin, min(sequence, state.first - 1), (subjects,)):
                newest[event.subject] = event
        if sequence >= state.first:
            newest |= {event.subject: event for event in await self._stream.as_of(subjects, sequence)}
        found = (event for event in newest.values() if event.sequence > after)
        return sorted(found, key=lambda event: event.sequence)

    async def sequence_before(self, moment: datetime, *, at_most: bool = False) -> int:
        """Return the last sequence before the events that were stored at a time or later.

        With ``at_most`` a lower one, if the first of them may be in a segment of the archive that cannot be read.

        Raises:
            SegmentDamaged: that segment is missing, or was cut off or changed; not with ``at_most``.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        state = await self._stream.state()
        if self._archive and state.first > 1 and (state.first_time is None or moment < state.first_time):
            found = await self._archive.sequence_before(state.lineage, moment, at_most=at_most)
            if found is not None and found < state.first:
                return found
        return await self._stream.sequence_before(moment, state)

    async def is_lost_since(self, moment: datetime) -> bool:
        """Return whether events that were stored at a time or later may be neither in the stream nor in the archive.

        Raises:
            SegmentDamaged: the archive's first segment is missing.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        state = await self._stream.state()
        if state.first <= 1 or (state.first_time is not None and moment >= state.first_time):
            return False
        archived = await self._archive.first(state.lineage) if self._archive else None
        return archived is None or archived >= state.first

    async def count(self, after: int, until: int, subjects: Sequence[str] = (">",)) -> dict[str, int]:
        """Return how many events of each type there are after a sequence and up to another, without reading them.

        Raises:
            SegmentDamaged: a segment of the archive is missing, or was cut off or changed.
            SaccadeError: HISTORY_EXPIRED, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        state = await self._stream.state()
        until = min(until, state.last)
        found: dict[str, int] = {}
        archived_until = min(until, state.first - 1)
        if after < archived_until:
            archive = await self._require_archived(state, after, archived_until)
            found = await archive.count(state.lineage, after, archived_until, subjects)
        if until >= state.first:
            in_stream = await self._stream.count(max(after, state.first - 1), until, subjects)
            for name, events in in_stream.items():
                found[name] = found.get(name, 0) + events
        return found

    async def _archived(
        self, state: StreamState, after: int, until: int, subjects: Sequence[str]
    ) -> AsyncIterator[HistoryEvent]:
        archive = await self._require_archived(state, after, until)
        async for event in archive.read(state.lineage, after, until, subjects):
            yield event

    async def _require_archived(self, state: StreamState, after: int, until: int) -> ArchiveReader:
        """Return the archive, if it begins before a range that the stream does not have any more.

        Raises:
            SegmentDamaged: its first segment is missing.
            SaccadeError: HISTORY_EXPIRED, STORAGE_UNAVAILABLE.
        """
        first = await self._archive.first(state.lineage) if self._archive else None
        if self._archive is None or first is None or after + 1 < first:
            begin = state.first if first is None else min(first, state.first)
            raise SaccadeError(
                ErrorCode.HISTORY_EXPIRED,
                f"The events {after + 1} to {min(until, begin - 1)} are not stored any more: the first one is {begin}.",
                first=begin,
            )
        return self._archive

    async def _begin_of(self, subjects: str, state: StreamState, after: int) -> int:
        """Return a sequence after which all events of some subjects are.

        Raises:
            SegmentDamaged, SaccadeError: as ``as_of``.
        """
        subject_id = subject_id_in(subjects)
        if self._archive is None or state.first <= 1 or after + 1 >= state.first:
            return after
        archived = await self._archive.first(state.lineage)
        begin = max(after, (state.first if archived is None else archived) - 1)
        made_at = _time_in(subject_id) if subject_id else None
        if made_at is None:
            return begin
        if state.first_time is not None and made_at - _CLOCK_SKEW >= state.first_time:
            return max(begin, state.first - 1)
        found = await self._archive.sequence_before(state.lineage, made_at - _CLOCK_SKEW)
        return max(begin, state.first - 1 if found is None else found)


def _time_in(subject_id: str) -> datetime | None:
    """Return the time that an id holds; None if it holds none."""
    parts = subject_id.partition("_")[2].split("-")
    try:
        made_at = time_of(f"id_{'-'.join(parts[:5])}")
    except ValueError:
        return None
    return made_at if datetime(2020, 1, 1, tzinfo=UTC) < made_at < datetime(2100, 1, 1, tzinfo=UTC) else None
