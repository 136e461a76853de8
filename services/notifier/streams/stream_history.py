"""Start of an event stream: which history a client gets, and the join with live events without gap or repeat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, decode
from contracts.limits import KIB
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import first_stored_since
from kit.bus.tail import EventTail
from kit.history.history import History
from services.notifier.metrics import NotifierMetrics
from services.notifier.streams.aggregate_history import AggregateHistory
from services.notifier.streams.archived_events import ArchivedEvents
from services.notifier.streams.gap import GapDetector
from services.notifier.streams.hub import Hub
from services.notifier.streams.snapshot import fold_partial_job, fold_partial_session
from services.notifier.streams.sse import BEGINS, Selection, StreamEvent
from services.notifier.streams.subscriber import StreamClosed, Subscriber

log = logging.getLogger(__name__)

#: History that a stream holds while its client takes it; a client that takes none holds it for seconds.
_BATCH_EVENTS: Final = 500
_BATCH_BYTES: Final = 256 * KIB
#: Maximum events of the ring that are written without letting other tasks run.
_JOIN_EVENTS: Final = 64
#: Maximum wait of a request for the bus before the client is asked to retry later.
_TIMEOUT_S: Final = 3.0


@dataclass(frozen=True)
class StreamStart:
    """Position at which a stream starts. ``preface`` are frames before all events."""

    position: int
    preface: list[bytes] = field(default_factory=list)
    #: The job or session has ended and the client has its last event: the stream would be empty.
    over: bool = False
    #: The run whose newest progress is sent first.
    run_id: str | None = None
    #: The first events are in the archive only.
    archived: bool = False


@dataclass(frozen=True)
class _Batch:
    """Some history: ``read_to`` is its last sequence, ``floor`` the ring's floor when the read began."""

    events: list[StreamEvent]
    read_to: int
    remaining: int
    floor: int
    #: First sequence of the stream after the read: wanted events before it may be missing here.
    first: int


class StreamHistory:
    """Reads history for new streams; equal concurrent reads are shared."""

    def __init__(
        self,
        tail: EventTail,
        progress: EventStore,
        hub: Hub,
        metrics: NotifierMetrics,
        *,
        history: History,
        rest: Callable[[float], Awaitable[None]],
    ) -> None:
        """Read the stream that ``tail`` follows, up to the events in ``hub``, and progress from its own stream.

        What the stream does not have any more is read from ``history``, with a ``rest`` after each piece of work.
        """
        self._tail = tail
        self._events = tail.store
        self._progress = progress
        self._hub = hub
        self._metrics = metrics
        self._gaps = GapDetector(tail.store, hub, metrics)
        self._archive = ArchivedEvents(history, lambda: hub.epoch, rest)
        self._reads: dict[tuple[int, str], asyncio.Task[_Batch]] = {}

    async def plan(self, selection: Selection, cursor: Cursor | None, since: Cursor | datetime | None) -> StreamStart:
        """Decide where a stream starts.

        Raises:
            SaccadeError: JOB_NOT_FOUND or SESSION_NOT_FOUND, when the tenant has none with this id; BUS_UNAVAILABLE.
        """
        if cursor is None and isinstance(since, Cursor):
            cursor = since
        position = self._hub.lineage.position_of(cursor) if cursor is not None else None
        if position is not None and position > self._hub.head:
            # The client got the cursor, for example from its POST, before this process got the event.
            await self._tail.wait_for(position, 1.0)
        history = await self._history(selection) if selection.ends else None
        run_id = history.run_id if history is not None else None
        if cursor is not None and (parted := await self._gaps.resume_position(cursor, history)) is not None:
            if parted == position and await self._archive.reaches(parted):
                return StreamStart(parted, over=_is_over(history, parted), run_id=run_id, archived=True)
            return StreamStart(*await self._gaps.frames(str(cursor), history, parted), run_id=run_id)
        if cursor is not None:
            begin = cursor.sequence if history is None else max(cursor.sequence, history.begin or 0)
            return StreamStart(begin, over=_is_over(history, cursor.sequence), run_id=run_id)
        if history is not None:
            return await self._start_of(history, run_id)
        if isinstance(since, datetime):
            if (before := await self._archive.sequence_before(since)) is not None:
                return StreamStart(before, archived=True)
            return StreamStart(await self.sequence_before(since, selection))
        return StreamStart(self._hub.head)

    async def _start_of(self, history: AggregateHistory, run_id: str | None) -> StreamStart:
        """Start the stream of one job or session with its first event, or with a gap if that is stored nowhere.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if history.begin is not None and (history.complete or await self._archive.reaches(history.begin)):
            return StreamStart(history.begin, run_id=run_id, archived=not history.complete)
        return StreamStart(*await self._gaps.frames(None, history), run_id=run_id)

    async def join(self, subscriber: Subscriber, start: StreamStart) -> None:
        """Write a stream's history and make it live, without a gap or a repeat.

        Raises:
            StreamClosed: the client disconnected or is too slow.
            SaccadeError: BUS_UNAVAILABLE.
        """
        hub, selection = self._hub, subscriber.selection
        for frame in start.preface:
            await subscriber.write_bytes(frame)
        progress = await self._newest_progress(selection, start.run_id) if start.run_id else []
        subscriber.position = start.position
        if start.archived:
            await self._write_archived(subscriber)
        while True:
            if subscriber.position < hub.floor:
                batch = await self._read(subscriber.position, selection.subjects)
                if min(batch.first, batch.floor + 1) > subscriber.position + 1:
                    await self._write_deleted(subscriber)
                    continue
                await subscriber.write(batch.events)
                self._metrics.replayed.inc(len(batch.events))
                # All events up to the ring's floor of that time were in the stream when it was read; newer ones
                # come from the ring, so a replica that lags cannot cause a gap.
                read_to = batch.read_to if batch.remaining else max(batch.read_to, batch.floor)
                subscriber.position = max(subscriber.position, read_to)
                continue
            events = hub.since(subscriber.position, selection)
            if len(events) <= _JOIN_EVENTS:
                break
            await subscriber.write(events)
        # Nothing is awaited from here to ``add``: no event can arrive in between.
        for event in events:
            subscriber.offer(event)
        if subscriber.reason is not None:
            raise StreamClosed
        hub.add(subscriber)
        if subscriber.ended and selection.ends:
            subscriber.close("ended")
            return
        subscriber.say_live()
        for event in progress:
            subscriber.offer_progress(event)

    async def _write_deleted(self, subscriber: Subscriber) -> None:
        """Write what retention has deleted from the stream while it was written, or a gap in its place.

        Raises:
            StreamClosed: the client disconnected or is too slow.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE; JOB_NOT_FOUND, SESSION_NOT_FOUND: all of it is gone.
        """
        position, selection = subscriber.position, subscriber.selection
        if await self._archive.reaches(position):
            await self._write_archived(subscriber)
            return
        history = await self._history(selection) if selection.ends else None
        after = Cursor(self._hub.epoch, position)
        subscriber.position, frames = await self._gaps.frames(str(after), history, position)
        for frame in frames:
            await subscriber.write_bytes(frame)

    async def _write_archived(self, subscriber: Subscriber) -> None:
        """Write what only the archive has, with a gap for each part of it that is lost.

        Raises:
            StreamClosed: the client disconnected or is too slow.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        while hole := await self._archive.write(subscriber, subscriber.position):
            first = int(hole.extra.get("first", 0)) or await self._gaps.first_in_stream()
            first = max(first, subscriber.position + 2)  # each gap goes on behind the last one
            after = Cursor(self._hub.epoch, subscriber.position)
            await subscriber.write_bytes(self._gaps.frame(str(after), first))
            subscriber.position = first - 1

    async def sequence_before(self, moment: datetime, selection: Selection) -> int:
        """Return the last sequence before the events of a time and later.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        first = await first_stored_since(
            self._events.client, self._events.stream, moment, selection.subjects, _TIMEOUT_S
        )
        return self._hub.head if first is None else first - 1

    async def _history(self, selection: Selection) -> AggregateHistory:
        stored = await self._events.load(selection.subjects, _TIMEOUT_S)
        events = list(self._readable(stored))
        newest = events[-1].sequence if events else 0
        # The replica that answers may lag behind this process.
        events += [event for event in self._hub.since(newest, selection) if event.sequence > newest]
        archived = False
        if not events or events[0].type not in BEGINS:
            whole = await self._archive.newest_of(selection, newest or self._hub.head)
            archived = len(whole) > len(events)
            events = whole if archived else events
        if not events:
            code = ErrorCode.JOB_NOT_FOUND if selection.noun == "job" else ErrorCode.SESSION_NOT_FOUND
            raise SaccadeError(code, f"There is no {selection.noun} {selection.subject_id}.")
        fold = fold_partial_job if selection.noun == "job" else fold_partial_session
        return AggregateHistory(events, fold(events), archived)

    async def _read(self, after: int, subjects: str) -> _Batch:
        """Return the batch of history after a sequence, read once for all streams that need it now."""
        key = (after, subjects)
        task = self._reads.get(key)
        if task is None:
            task = asyncio.ensure_future(self._read_batch(after, subjects))
            self._reads[key] = task
            task.add_done_callback(lambda done: self._on_read(key, done))
        return await asyncio.shield(task)

    async def _read_batch(self, after: int, subjects: str) -> _Batch:
        floor = self._hub.floor
        stored, remaining = await self._events.batch(after, subjects, _BATCH_EVENTS, size_bytes=_BATCH_BYTES)
        read_to = stored[-1].sequence if stored else after
        first = await self._gaps.first_in_stream()  # last: what is deleted before the read is missing in it
        return _Batch(list(self._readable(stored)), read_to, remaining, floor, first)

    def _readable(self, events: list[StoredEvent]) -> Iterator[StreamEvent]:
        """Skip the events that no tail could read either."""
        for stored in events:
            try:
                yield StreamEvent.stored(stored, self._hub.epoch)
            except ValueError as error:
                log.warning("event %d is skipped: %s", stored.sequence, error)

    def _on_read(self, key: tuple[int, str], task: asyncio.Task[_Batch]) -> None:
        self._reads.pop(key, None)
        if not task.cancelled() and (error := task.exception()):
            log.warning("history after %d: %s", key[0], error)

    async def _newest_progress(self, selection: Selection, run_id: str) -> list[StreamEvent]:
        """Return the newest progress of a run, so that a progress bar is right at once."""
        subjects = selection.subjects.replace("saccade.evt.", "saccade.prog.", 1)
        try:
            stored = await self._progress.load(subjects, _TIMEOUT_S)
        except SaccadeError:
            return []  # the next one arrives within seconds
        return [
            replace(event, sequence=0)
            for event in self._readable(stored)
            if decode(event.body).data.get("run_id") == run_id
        ]


def _is_over(history: AggregateHistory | None, position: int) -> bool:
    """Return whether the job or session of a stream has ended, and its client has all events."""
    ended_at = history.ended_at if history is not None else None
    return ended_at is not None and position >= ended_at
