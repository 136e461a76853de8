"""Archive writer: the leader writes what is stored in EVENTS to the bucket, segment by segment.

A segment ends with the event that makes it as large as the limit, or before the first event that was stored an hour
after its own first: its end follows from the events alone, so a process that takes over writes the same segment again.
It is read back and compared before its record in the audit log, which is the checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import SaccadeError
from contracts.streams import EVENTS
from kit.bus.audit_log import AuditLog
from kit.bus.lineage import Lineage
from kit.history.archive_reader import ArchiveReader, own_ranges
from kit.history.event_lines import HistoryEvent
from kit.history.segments import Segment, SegmentBuilder
from kit.history.stream_reader import StreamReader, StreamState
from services.dispatcher.archive.archive_plan import ArchiveLag, NextSegment, lag_of, next_segment
from services.dispatcher.archive.checkpoints import ArchiveCheckpoint, Checkpoints
from services.dispatcher.settings import ArchiveWriterSettings

log = logging.getLogger(__name__)

#: Time after the end of a segment's hour for which an event of that hour may still be stored: clocks of a cluster.
_LATE_S: Final = 5.0
_ERROR_RETRY_S: Final = 5.0
#: Between two batches: the dispatcher has other work, and the archive has time.
_REST_SHARE: Final = 2.0
#: Share of the retention from which on the lag is reported loudly, and how often.
_LOUD_AT: Final = 0.5
_LOUD_EVERY_S: Final = 600.0


class _Expired(Exception):  # noqa: N818 - an expected result, not a fault
    """The stream deleted events of the segment while they were read."""


class _Progress:
    """A segment that is being built."""

    def __init__(self, plan: NextSegment, stream: str) -> None:
        self.plan = plan
        self.position = plan.first - 1
        self.first_time: datetime | None = None
        #: Last sequence of the segment, once it is full.
        self.last: int | None = None
        self._builder = SegmentBuilder(stream, plan.epoch, plan.first, plan.previous, plan.expired)

    def add(self, events: list[HistoryEvent], limit_bytes: int, limit: timedelta) -> None:
        """Add events until the segment is full."""
        for event in events:
            if self.plan.until is not None and event.sequence > self.plan.until:
                self.last = self.plan.until
            elif self.first_time is not None and event.time >= self.first_time + limit:
                self.last = self.position
            if self.last is not None:
                return
            self.first_time = self.first_time or event.time
            self._builder.add([event])
            self.position = event.sequence
            if self._builder.raw_bytes >= limit_bytes:
                self.last = self.position
                return

    def is_of(self, lineage: Lineage) -> bool:
        """Return whether its epoch still ends where it did when the segment was begun."""
        plan = self.plan
        return any((own.epoch, own.until) == (plan.epoch, plan.until) for own in own_ranges(lineage))

    def finish(self) -> Segment:
        """Return the segment."""
        assert self.last is not None
        return self._builder.finish(self.last)


class ArchiveWriter:
    """Writes the archive while its dispatcher leads."""

    def __init__(
        self,
        stream: StreamReader,
        archive: ArchiveReader,
        audit: AuditLog,
        settings: ArchiveWriterSettings,
        is_leader: Callable[[], bool],
    ) -> None:
        """Read ``stream``; ``is_leader`` says whether the lease is still held."""
        self._stream = stream
        self._archive = archive
        self._checkpoints = Checkpoints(audit)
        self._settings = settings
        self._is_leader = is_leader
        self._progress: _Progress | None = None
        #: Finished and not recorded yet.
        self._finished: Segment | None = None
        self._loud_at = 0.0
        self._writing = asyncio.Lock()
        self.lag = ArchiveLag()
        #: Last sequence that is in the archive; 0 while that is not known.
        self.archived_until = 0
        #: Segments that this process stored, and events that the stream deleted before they were archived.
        self.segments = 0
        self.lost_events = 0

    async def run(self) -> None:
        """Write until cancelled."""
        self._progress = self._finished = None  # another dispatcher may have led since
        try:
            await self._write_for_ever()
        finally:
            self.lag, self.archived_until = ArchiveLag(), 0

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Write nothing meanwhile, and afterwards begin again with what the stream has then."""
        async with self._writing:
            self._progress = self._finished = None
            try:
                yield
            finally:
                self._progress = self._finished = None

    async def _write_for_ever(self) -> None:
        while True:
            wait_s = self._settings.poll_s
            try:
                while True:
                    async with self._writing:
                        if not await self.write_next():
                            break
            except (SaccadeError, _Expired) as error:
                log.warning("the archive is not written at the moment, and this is tried again: %s", error)
                wait_s = min(wait_s, _ERROR_RETRY_S)
            await asyncio.sleep(wait_s)

    async def write_next(self) -> bool:
        """Read what is new, and write a segment if one is full; return whether it was.

        Raises:
            SegmentDamaged: the bucket does not return what was written.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        state = await self._stream.state()
        if self._progress is None or not self._progress.is_of(state.lineage):
            self._finished = None
            unknown = state.now - state.first_time if state.first_time else None
            self.lag = lag_of(state, state.first - 1, unknown, EVENTS)  # at most, until it is known
            self._progress = await self._begin(state)
        progress = self._progress
        if self._finished is None:
            try:
                state = await self._read(progress, state)
            except _Expired:
                self._progress = None
                raise
        self._report(progress, state)
        if progress.last is None:
            return False
        if self._finished is None:
            self._finished = await asyncio.to_thread(progress.finish)
        if not self._is_leader():
            return False
        await self._write(self._finished)
        self._progress = self._finished = None
        return True

    async def _begin(self, state: StreamState) -> _Progress:
        """Return an empty segment after the newest checkpoint.

        Raises:
            SegmentDamaged, SaccadeError: as ``write_next``.
        """
        lineage = state.lineage
        while True:
            checkpoints = await self._checkpoints.newest([epoch.id for epoch in lineage.epochs])
            if not checkpoints:
                checkpoints = await self._in_bucket(lineage)
            plan = next_segment(lineage, checkpoints, state.first)
            if plan.expired is None:
                return _Progress(plan, self._stream.store.stream)
            if not await self._adopt(lineage, plan.expired[0], plan.previous):
                break
        self.lost_events += plan.expired[1] - plan.expired[0] + 1
        log.error(
            "events %d to %d were deleted from the stream before they were archived: they are lost", *plan.expired
        )
        return _Progress(plan, self._stream.store.stream)

    async def _in_bucket(self, lineage: Lineage) -> dict[str, ArchiveCheckpoint]:
        """Return the newest segment of each epoch in the bucket: the audit log has none, perhaps it was restored.

        Raises:
            SegmentDamaged, SaccadeError: as ``write_next``.
        """
        found: dict[str, ArchiveCheckpoint] = {}
        for own in own_ranges(lineage):
            if listed := await self._archive.segments.of_epoch(own.epoch):
                newest = max(listed, key=lambda stored: stored.last)
                file = await self._archive.segments.verified(newest)
                found[own.epoch] = ArchiveCheckpoint(newest.first, newest.last, file.manifest.sha256)
        return found

    async def _adopt(self, lineage: Lineage, first: int, previous: str) -> bool:
        """Record a segment that a process wrote that died before its record, now that the stream lacks its events.

        Raises:
            SegmentDamaged, SaccadeError: as ``write_next``.
        """
        for own in own_ranges(lineage):
            if first < own.first or (own.until is not None and first > own.until):
                continue
            for stored in await self._archive.segments.of_epoch(own.epoch):
                if stored.first != first:
                    continue
                file = await self._archive.segments.verified(stored)
                if file.manifest.previous == previous:
                    intent = await self._checkpoints.request(stored, file.manifest, file.index.size_bytes)
                    await self._checkpoints.stored(intent)
                    log.warning("segment %s was in the bucket without a record: it is recorded now", stored.key)
                    return True
        return False

    async def _read(self, progress: _Progress, state: StreamState) -> StreamState:
        """Add what is new to a segment, until it is full; return the newest state of the stream.

        Raises:
            _Expired: the stream deleted some of it meanwhile.
            SaccadeError: BUS_UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        limit = timedelta(seconds=self._settings.segment_s)
        complete_at = state.now  # everything that was stored by then has been read
        while progress.last is None and progress.position < state.last:
            began, complete_at = loop.time(), state.now
            events, read_to = await self._stream.batch(progress.position, (">",))
            state = await self._stream.state()
            if state.first > progress.position + 1:
                raise _Expired(f"the stream deleted events {progress.position + 1} to {state.first - 1} meanwhile")
            await asyncio.to_thread(progress.add, events, self._settings.segment_bytes, limit)
            if read_to is None:
                break
            await asyncio.sleep(_REST_SHARE * (loop.time() - began))
        if progress.last is None and progress.plan.until is not None and state.last >= progress.plan.until:
            progress.last = progress.plan.until
        late = limit + timedelta(seconds=_LATE_S)
        if progress.last is None and progress.first_time is not None and complete_at >= progress.first_time + late:
            progress.last = progress.position
        return state

    async def _write(self, segment: Segment) -> None:
        """Write a segment, read it back, record it.

        Raises:
            SegmentDamaged: the bucket does not return what was written.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        segments = self._archive.segments
        intent = await self._checkpoints.request(
            await segments.place_of(segment.manifest), segment.manifest, len(segment.data)
        )
        stored = await segments.store(segment)
        await self._checkpoints.stored(intent)
        self.segments += 1
        log.info("archived events %d to %d, %d bytes", stored.first, stored.last, len(segment.data))

    def _report(self, progress: _Progress, state: StreamState) -> None:
        """Keep the lag for the metrics, and warn while the stream is about to delete what is not archived."""
        oldest = state.now - progress.first_time if progress.first_time else None
        self.archived_until = progress.plan.first - 1
        self.lag = lag_of(state, progress.plan.first - 1, oldest, EVENTS)
        now = asyncio.get_running_loop().time()
        if self.lag.retention_used >= _LOUD_AT and now >= self._loud_at:
            self._loud_at = now + _LOUD_EVERY_S
            log.error(
                "the archive is %d events behind, and the stream will delete them: %d %% of its retention is used "
                "(docs/archive.md)",
                self.lag.events,
                100 * self.lag.retention_used,
            )
