"""Reads the archive of a stream: which segments hold a range, and their events, counts and times.

Every sequence belongs to one epoch of the lineage: what a lost branch of an older epoch holds is never read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.lineage import Lineage
from kit.history.event_lines import HistoryEvent, parse_timestamp
from kit.history.manifest import FrameSummary, hashed_ids
from kit.history.segment_store import SegmentDamaged, SegmentRewritten, SegmentStore, StoredSegment
from kit.history.subjects import SubjectFilter, matches_any, narrowed, subject_id_in

log = logging.getLogger(__name__)

#: Time for which a list of segments without the wanted one is not read again.
_LIST_S: Final = 30.0


@dataclass(frozen=True)
class OwnRange:
    """Sequences whose events an epoch stored first; the newest epoch's have no end."""

    epoch: str
    first: int
    until: int | None


def own_ranges(lineage: Lineage) -> list[OwnRange]:
    """Return the range of each epoch that has one, in order: together they are all sequences, each once."""
    ranges = [OwnRange(epoch.id, epoch.first + 1, epoch.until) for epoch in lineage.epochs]
    return [own for own in ranges if own.until is None or own.until >= own.first]


@dataclass(frozen=True)
class _Piece:
    """The part of a segment that belongs to its epoch."""

    first: int
    last: int
    segment: StoredSegment


class ArchiveReader:
    """Reads the archive of one stream."""

    def __init__(self, segments: SegmentStore) -> None:
        """Read ``segments``; the lineage is passed with each call, because the stream knows it."""
        self.segments = segments
        self._lists: dict[str, tuple[float, list[StoredSegment]]] = {}
        self._listing = asyncio.Lock()

    async def first(self, lineage: Lineage) -> int | None:
        """Return the first sequence of the archive; None when it is empty.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        for own in own_ranges(lineage):
            for piece in self._pieces(own, await self._list(own.epoch)):
                return piece.first
        return None

    async def read(
        self, lineage: Lineage, after: int, until: int, subjects: Sequence[str]
    ) -> AsyncIterator[HistoryEvent]:
        """Yield the archived events after a sequence and up to another that match one of ``subjects``.

        Raises:
            SegmentDamaged: a segment is missing, or was cut off or changed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        wanted = _Wanted(subjects)
        async for piece in self._chain(lineage, after, until):
            position, is_read = max(after, piece.first - 1), False
            while not is_read:
                try:
                    async for event in self._of_piece(piece, position, min(until, piece.last), wanted):
                        position = event.sequence
                        yield event
                    is_read = True
                except SegmentRewritten:
                    log.info("segment %s was written anew: it is read again", piece.segment.key)
                except SegmentDamaged as error:
                    error.extra["first"] = piece.last + 1  # what comes after it may be of the epoch that followed
                    raise

    async def _of_piece(self, piece: _Piece, begin: int, end: int, wanted: _Wanted) -> AsyncIterator[HistoryEvent]:
        """Yield the events of one segment.

        Raises:
            SegmentRewritten: it was written anew meanwhile.
            SegmentDamaged, SaccadeError: as ``read``.
        """
        index = await self.segments.index(piece.segment)
        numbers = [
            number
            for number, frame in enumerate(index.manifest.frames)
            if frame.last > begin and frame.first <= end and wanted.may_be_in(frame)
        ]
        async for events in self.segments.frames(piece.segment, numbers, wanted.filter.line_test()):
            for event in events:
                if begin < event.sequence <= end and wanted.filter.matches(event.subject):
                    yield event

    async def count(self, lineage: Lineage, after: int, until: int, subjects: Sequence[str]) -> dict[str, int]:
        """Return how many archived events of each type there are; only frames at the ends of the range are read.

        Raises:
            SegmentDamaged: a segment is missing, or was cut off or changed.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        found: Counter[str] = Counter()
        async for piece in self._chain(lineage, after, until):
            begin, end = max(after, piece.first - 1), min(until, piece.last)
            counted: Counter[str] | None = None
            while counted is None:
                try:
                    counted = await self._counts_of_piece(piece, begin, end, subjects)
                except SegmentRewritten:
                    log.info("segment %s was written anew: it is counted again", piece.segment.key)
            found += counted
        return dict(found)

    async def _counts_of_piece(self, piece: _Piece, begin: int, end: int, subjects: Sequence[str]) -> Counter[str]:
        """Return how many events of each type one segment has.

        Raises:
            SegmentRewritten: it was written anew meanwhile.
            SegmentDamaged, SaccadeError: as ``count``.
        """
        found: Counter[str] = Counter()
        by_summary, wanted = all(subject_id_in(pattern) is None for pattern in subjects), _Wanted(subjects)
        to_read: list[int] = []
        for number, frame in enumerate((await self.segments.index(piece.segment)).manifest.frames):
            if frame.last <= begin or frame.first > end or not wanted.may_be_in(frame):
                continue
            if not by_summary or frame.first <= begin or frame.last > end:
                to_read.append(number)
                continue
            for name, number_of in _matching_counts(frame, subjects):
                found[name] += number_of
        async for events in self.segments.frames(piece.segment, to_read):
            for event in events:
                if begin < event.sequence <= end and wanted.filter.matches(event.subject):
                    found[event.type] += 1
        return found

    async def sequence_before(self, lineage: Lineage, moment: datetime, *, at_most: bool = False) -> int | None:
        """Return the last sequence before the archived events of a time and later; None if all are older.

        With ``at_most`` a lower one where that event may be in a segment that cannot be read: the one before it.

        Raises:
            SegmentDamaged: that segment is missing, or was cut off or changed; not with ``at_most``.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        pieces = [piece for own in own_ranges(lineage) for piece in self._pieces(own, await self._list(own.epoch))]
        low, high = 0, len(pieces)
        while low < high:  # the first piece of which nothing says that its last event is older
            middle = (low + high) // 2
            low, high = await self._halved(moment, pieces, low, middle, high)
        for piece in pieces[low:]:
            while True:
                try:
                    found = await self._first_since(piece, moment)
                    break
                except SegmentRewritten:
                    log.info("segment %s was written anew: it is read again", piece.segment.key)
                except SegmentDamaged:
                    if not at_most:
                        raise
                    return piece.first - 1
            if found is not None:
                return found - 1
        return None

    async def _halved(
        self, moment: datetime, pieces: Sequence[_Piece], low: int, middle: int, high: int
    ) -> tuple[int, int]:
        """Return between which pieces a search by time goes on, by the first one from the middle on that has events.

        One that has lost all its events to erasures, or cannot be read, says nothing.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        for number in range(middle, high):
            piece = pieces[number]
            try:
                manifest = (await self.segments.index(piece.segment)).manifest
            except SegmentDamaged as error:
                log.warning("a search by time goes on beside a segment: %s", error.message)
                continue
            if manifest.first_time is None or manifest.last_time is None:
                continue
            if parse_timestamp(manifest.last_time) < moment:
                return number + 1, high
            if parse_timestamp(manifest.first_time) < moment and piece.first == piece.segment.first:
                return number, number  # also those that were passed over are older
            break
        return low, middle

    async def _first_since(self, piece: _Piece, moment: datetime) -> int | None:
        """Return the sequence of the first event of a time or later in one segment; None if all are older.

        Raises:
            SegmentRewritten: it was written anew meanwhile.
            SegmentDamaged, SaccadeError: as ``sequence_before``.
        """
        frames = (await self.segments.index(piece.segment)).manifest.frames
        for number, frame in enumerate(frames):
            if parse_timestamp(frame.last_time) < moment or frame.last < piece.first:
                continue
            async for events in self.segments.frames(piece.segment, [number]):
                for event in events:
                    if event.time >= moment and piece.first <= event.sequence <= piece.last:
                        return event.sequence
        return None

    async def _chain(self, lineage: Lineage, after: int, until: int) -> AsyncIterator[_Piece]:
        """Yield the pieces that hold a range, in order and without a hole.

        Raises:
            SegmentDamaged: a segment is missing.
            SaccadeError: HISTORY_EXPIRED, STORAGE_UNAVAILABLE.
        """
        position = after
        for own in own_ranges(lineage):
            end = until if own.until is None else min(until, own.until)
            while position < end:
                piece = await self._piece_of(own, position + 1)
                if piece is None:
                    await self._explain_hole(lineage, position + 1, until)
                    return
                yield piece
                position = piece.last

    async def _piece_of(self, own: OwnRange, sequence: int) -> _Piece | None:
        """Return the piece of an epoch that holds a sequence; the list is read again if it is older than some time."""
        for listed in (self._listed(own.epoch), None):
            pieces = self._pieces(own, listed if listed is not None else await self._list(own.epoch))
            holding = [piece for piece in pieces if piece.first <= sequence <= piece.last]
            if holding:
                return max(holding, key=lambda piece: piece.last)
        return None

    async def _explain_hole(self, lineage: Lineage, sequence: int, until: int) -> None:
        """Explain why nothing in the archive holds a sequence.

        Raises:
            SegmentDamaged: a segment is missing.
            SaccadeError: HISTORY_EXPIRED, if the stream had deleted it before it was archived; STORAGE_UNAVAILABLE.
        """
        beyond = await self._next_piece(lineage, sequence)
        if beyond is None:
            raise SegmentDamaged(f"events {sequence} to {until}", "no segment holds them")
        expired = (await self.segments.index(beyond.segment)).manifest.expired
        if expired is None or not expired[0] <= sequence <= expired[1]:
            lost = f"events {sequence} to {beyond.first - 1}"
            raise SegmentDamaged(lost, "their segment was removed from the bucket", beyond.first)
        raise SaccadeError(
            ErrorCode.HISTORY_EXPIRED,
            f"The events {expired[0]} to {expired[1]} were deleted before they were archived; next is {beyond.first}.",
            first=beyond.first,
        )

    async def _next_piece(self, lineage: Lineage, sequence: int) -> _Piece | None:
        for own in own_ranges(lineage):
            for piece in self._pieces(own, await self._list(own.epoch)):
                if piece.first > sequence:
                    return piece
        return None

    @staticmethod
    def _pieces(own: OwnRange, listed: Sequence[StoredSegment]) -> Iterator[_Piece]:
        for segment in listed:
            first = max(segment.first, own.first)
            last = segment.last if own.until is None else min(segment.last, own.until)
            if first <= last:
                yield _Piece(first, last, segment)

    def _listed(self, epoch: str) -> list[StoredSegment] | None:
        return self._lists[epoch][1] if epoch in self._lists else None

    async def _list(self, epoch: str) -> list[StoredSegment]:
        """Return the segments of an epoch, as they were at most some seconds ago.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        async with self._listing:
            at, listed = self._lists.get(epoch, (0.0, []))
            if not at or time.monotonic() - at > _LIST_S:
                listed = await self.segments.of_epoch(epoch)
                self._lists[epoch] = (time.monotonic(), listed)
            return listed


class _Wanted:
    """The filters of a read, prepared for many frames."""

    def __init__(self, subjects: Sequence[str]) -> None:
        self.filter = SubjectFilter(subjects)
        self._hashed = hashed_ids(self.filter.by_id or ())

    def may_be_in(self, frame: FrameSummary) -> bool:
        """Return whether a frame may hold an event that matches one of the filters; False is certain."""
        by_id = self.filter.by_id
        if by_id is None:
            return any(_may_match(frame, pattern) for pattern in self.filter.patterns)
        return any(next(_matching_counts(frame, by_id[subject_id]), None) for subject_id in frame.held_of(self._hashed))


def _may_match(frame: FrameSummary, pattern: str) -> bool:
    subject_id = subject_id_in(pattern)
    if subject_id is not None and not frame.may_hold(subject_id):
        return False
    return next(_matching_counts(frame, [pattern]), None) is not None


def _matching_counts(frame: FrameSummary, subjects: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield type and number of the events of a frame that match one of ``subjects``, whatever their id."""
    for tenant, types in frame.counts.items():
        for name, events in types.items():
            # A subject that is no event's is counted by itself, without a tenant.
            if any(_counts_as(pattern, tenant, name) for pattern in subjects):
                yield name, events


def _counts_as(pattern: str, tenant: str, name: str) -> bool:
    if not tenant:
        return matches_any([pattern], name)
    return any(joined.split(".")[2] in ("*", tenant) for joined in narrowed(pattern, name))
