"""What a client gets before it is live: which history, from where, and how it meets the live events without a seam."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, decode
from contracts.events.session import SessionReady
from contracts.job import Job, State
from contracts.session import Session
from kit.bus.connection import request
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from services.notifier.metrics import Metrics
from services.notifier.streams.hub import Hub
from services.notifier.streams.snapshot import fold_left, fold_session_left, snapshot_frame
from services.notifier.streams.sse import BEGINS, ENDS, REOPENS, Selection, StreamEvent, control_frame
from services.notifier.streams.subscriber import Closed, Subscriber

log = logging.getLogger(__name__)

_READ_AT_ONCE: Final = 500
#: So few events of the ring are given in one go, without letting others run.
_AT_ONCE: Final = 64
_NO_MESSAGE_FOUND: Final = 10037
#: How long a request may wait for the bus before the client is told to come again.
_PATIENCE_S: Final = 3.0


@dataclass(frozen=True)
class Plan:
    """Where a stream starts. ``preface`` are frames that stand before all events."""

    position: int
    preface: list[bytes] = field(default_factory=list)
    #: The thing has ended and the client has its last event: there is nothing more to say.
    over: bool = False
    #: The run whose newest progress is worth showing.
    run_id: str | None = None


@dataclass(frozen=True)
class _Thing:
    """What the newest event of each type says of one job or session."""

    events: list[StreamEvent]
    state: Job | Session | None

    @property
    def ended_at(self) -> int | None:
        """Give the sequence of the event that ended it, unless it goes on."""
        turns = [event for event in self.events if event.type in ENDS or event.type in REOPENS]
        return turns[-1].sequence if turns and turns[-1].type in ENDS else None

    @property
    def whole(self) -> bool:
        """Tell whether its beginning is still there."""
        return self.events[0].type in BEGINS


class Replay:
    """Reads history for those who join; equal reads at one time are one read."""

    def __init__(self, tail: EventTail, progress: EventStore, hub: Hub, metrics: Metrics) -> None:
        """Read the stream that ``tail`` follows, up to where ``hub`` goes on, and progress from its own."""
        self._tail = tail
        self._events = tail.store
        self._progress = progress
        self._hub = hub
        self._metrics = metrics
        self._reading: dict[tuple[int, str], asyncio.Task[tuple[list[StreamEvent], int, int, int]]] = {}

    async def plan(self, selection: Selection, cursor: Cursor | None, since: Cursor | datetime | None) -> Plan:
        """Decide where a stream starts.

        Raises:
            SaccadeError: JOB_NOT_FOUND or SESSION_NOT_FOUND, when the tenant has no such thing; BUS_UNAVAILABLE.
        """
        if cursor is None and isinstance(since, Cursor):
            cursor = since
        if cursor and cursor.epoch == self._hub.epoch and cursor.sequence > self._hub.head:
            # The client heard of an event, from the answer to its POST perhaps, before this process did.
            await self._tail.wait_for(cursor.sequence, 1.0)
        thing = await self._thing(selection) if selection.ends else None
        if cursor is not None and (position := await self._after_gap(cursor, thing)) is not None:
            return Plan(position, await self._gap(str(cursor), thing), run_id=_running(thing))
        if cursor is not None:
            over = thing is not None and thing.ended_at is not None and cursor.sequence >= thing.ended_at
            return Plan(cursor.sequence, over=over, run_id=_running(thing))
        if thing is not None:
            preface = [] if thing.whole else await self._gap(None, thing)
            return Plan(0, preface, run_id=_running(thing))
        if isinstance(since, datetime):
            return Plan(await self.sequence_before(since, selection))
        return Plan(self._hub.head)

    async def join(self, subscriber: Subscriber, plan: Plan) -> None:
        """Give a stream its history and make it live, without a gap or a repeat where they meet.

        Raises:
            Closed: the client is gone or too slow.
            SaccadeError: BUS_UNAVAILABLE.
        """
        hub, selection = self._hub, subscriber.selection
        for frame in plan.preface:
            await subscriber.write_bytes(frame)
        progress = await self._newest_progress(selection, plan.run_id) if plan.run_id else []
        subscriber.position = plan.position
        while True:
            if subscriber.position < hub.floor:
                events, read_to, left, floor = await self._read(subscriber.position, selection.subjects)
                await subscriber.write(events)
                self._metrics.replayed.inc(len(events))
                # All up to the ring's floor of that moment was in the stream when it was read; what is newer
                # comes from the ring, which a replica that lags behind cannot spoil.
                subscriber.position = max(subscriber.position, read_to if left else max(read_to, floor))
                continue
            events = hub.since(subscriber.position, selection)
            if len(events) <= _AT_ONCE:
                break
            await subscriber.write(events)
        # From here to ``add`` nothing awaits: no event can come between.
        for event in events:
            subscriber.offer(event)
        if subscriber.reason is not None:
            raise Closed
        hub.add(subscriber)
        if subscriber.ended and selection.ends:
            subscriber.close("ended")
            return
        for event in progress:
            subscriber.offer_progress(event)

    async def _thing(self, selection: Selection) -> _Thing:
        stored = await self._events.load(selection.subjects, _PATIENCE_S)
        events = list(self._readable(stored))
        newest = events[-1].sequence if events else 0
        # A replica that answers may lag behind what this process has been told.
        events += [event for event in self._hub.since(newest, selection) if event.sequence > newest]
        if not events:
            code = ErrorCode.JOB_NOT_FOUND if selection.noun == "job" else ErrorCode.SESSION_NOT_FOUND
            raise SaccadeError(code, f"There is no {selection.noun} {selection.subject_id}.")
        return _Thing(events, fold_left(events) if selection.noun == "job" else fold_session_left(events))

    async def _after_gap(self, cursor: Cursor, thing: _Thing | None) -> int | None:
        """Give what to go on after when events after the cursor are lost; None when none is."""
        if cursor.epoch == self._hub.epoch and self._hub.floor <= cursor.sequence <= self._hub.head:
            return None
        state = await self._state()
        if cursor.epoch != self._hub.epoch or cursor.sequence > state["last_seq"]:
            return 0
        if cursor.sequence + 1 >= state["first_seq"] or (thing is not None and thing.whole):
            return None
        return cursor.sequence

    async def _gap(self, after: str | None, thing: _Thing | None) -> list[bytes]:
        state = await self._state()
        first = str(Cursor(self._hub.epoch, int(state["first_seq"])))
        self._metrics.gaps.inc()
        frames = [control_frame("gap", {"after": after, "first_available": first})]
        if thing is not None and thing.state is not None:
            frames.append(snapshot_frame(thing.state))
        return frames

    async def _state(self) -> dict[str, Any]:
        """Read what the stream holds.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        info = await request(self._events.client, f"STREAM.INFO.{self._events.stream}", {}, _PATIENCE_S)
        if "error" in info:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {info['error'].get('description')}.")
        state: dict[str, Any] = info["state"]
        return state

    async def sequence_before(self, moment: datetime, selection: Selection) -> int:
        """Find the sequence after which the events of a moment and later stand.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        body = {"start_time": moment.isoformat().replace("+00:00", "Z"), "next_by_subj": selection.subjects}
        answer = await request(self._events.client, f"STREAM.MSG.GET.{self._events.stream}", body, _PATIENCE_S)
        if "message" in answer:
            return int(answer["message"]["seq"]) - 1
        if answer.get("error", {}).get("err_code") == _NO_MESSAGE_FOUND:
            return self._hub.head
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {answer.get('error', {}).get('description')}.")

    async def _read(self, after: int, subjects: str) -> tuple[list[StreamEvent], int, int, int]:
        """Read some history; up to where, what is left of it, and the ring's floor when the reading began."""
        key = (after, subjects)
        task = self._reading.get(key)
        if task is None:
            task = asyncio.ensure_future(self._read_once(after, subjects))
            self._reading[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    async def _read_once(self, after: int, subjects: str) -> tuple[list[StreamEvent], int, int, int]:
        floor = self._hub.floor
        stored, left = await self._events.batch(after, subjects, _READ_AT_ONCE)
        read_to = stored[-1].sequence if stored else after
        return list(self._readable(stored)), read_to, left, floor

    def _readable(self, events: list[StoredEvent]) -> Iterator[StreamEvent]:
        """Leave out what no tail could read either."""
        for stored in events:
            try:
                yield StreamEvent.stored(stored, self._hub.epoch)
            except ValueError as error:
                log.warning("event %d is left out: %s", stored.sequence, error)

    def _finished(self, key: tuple[int, str], task: asyncio.Task[tuple[list[StreamEvent], int, int, int]]) -> None:
        self._reading.pop(key, None)
        if not task.cancelled() and (error := task.exception()):
            log.warning("history after %d: %s", key[0], error)

    async def _newest_progress(self, selection: Selection, run_id: str) -> list[StreamEvent]:
        """Read how far the run is, so that a bar shows at once where it stands."""
        subjects = selection.subjects.replace("saccade.evt.", "saccade.prog.", 1)
        try:
            stored = await self._progress.load(subjects, _PATIENCE_S)
        except SaccadeError:
            return []  # the next one comes within seconds
        return [
            replace(one, sequence=0) for one in self._readable(stored) if decode(one.body).data.get("run_id") == run_id
        ]


def _running(thing: _Thing | None) -> str | None:
    if thing is None:
        return None
    if isinstance(thing.state, Job):
        return thing.state.run_id if thing.state.state is State.RUNNING else None
    ready = [event for event in thing.events if event.type == SessionReady.type]
    if thing.ended_at is not None or not ready:
        return None
    run_id = decode(ready[-1].body).data.get("run_id")
    return run_id if isinstance(run_id, str) else None
