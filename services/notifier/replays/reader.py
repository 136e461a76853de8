"""Stream of a replay into ``sse`` or ``file``: each reader is paced on its own, from the last id that it has.

The reader holds the checkpoint: ids are ``rpl_….<sequence>``, so a resumed stream goes on exactly there, whichever
notifier answers and however often one is killed. Such an id is no cursor of live events. The first and the last frame
say that this is a replay; the last one has the id ``rpl_….end``, after which there is nothing to resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import id_pattern
from contracts.replay import Replay, ReplayCounts, ReplayState
from kit.history.event_lines import encode_line
from kit.history.history import History, HistoryEvent
from kit.http.head_requests import IS_HEAD
from kit.tasks import end
from services.notifier.replays.live_first import LiveFirst
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.pace import Schedule
from services.notifier.replays.progress import ReplayProgress
from services.notifier.replays.replay_service import ReplayService
from services.notifier.replays.target import TRANSIENT
from services.notifier.streams.routes import RetryLaterResponse
from services.notifier.streams.sse import HEARTBEAT, frame, stream_head
from services.notifier.streams.stream_places import StreamPlaces

log = logging.getLogger(__name__)

OPENED: Final = "replay.opened"
CLOSED: Final = "replay.closed"
#: Frames that are due are written together up to this size.
_CHUNK_BYTES: Final = 64 * 1024
#: Events that are due within this time, or read within it at full speed, are written together.
_TOGETHER_S: Final = 0.005
#: A reader that takes nothing for this long is disconnected; it resumes by its id.
_BLOCKED_S: Final = 60.0
_END: Final = "end"
_ID: Final = re.compile(rf"({id_pattern('rpl')[1:-1]})\.([0-9]{{1,18}}|{_END})")
#: Ids of a replay's stream, for OpenAPI.
STREAM_ID_PATTERN: Final = f"^{_ID.pattern}$"
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"connection", b"close"),
]


class ReplayEnded(Exception):  # noqa: N818 - an expected result, not a fault
    """The replay has ended before all was sent."""


def position_after(replay: Replay, last_id: str | None) -> int | None:
    """Return the sequence after which a reader goes on; None: it has everything, the last frame too.

    Raises:
        SaccadeError: INVALID_PARAMETER: the id is not one of this replay.
    """
    if not last_id:
        return replay.plan.window.after
    found = _ID.fullmatch(last_id.strip())
    if found is None or found[1] != replay.id:
        message = f"Last-Event-ID: {last_id[:80]!r} is not an id of {replay.id}."
        hint = f"Send the id of the last frame that you have, {replay.id}.<number>, or none to begin."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
    if found[2] == _END:
        return None
    return min(max(int(found[2]), replay.plan.window.after), replay.plan.window.until)


class ReplayReaders:
    """Opens streams of replays; ends them when the process stops."""

    def __init__(
        self, service: ReplayService, history: History, traffic: LiveTraffic, *, heartbeat_s: float, maximum: int
    ) -> None:
        """Allow ``maximum`` streams at a time."""
        self.traffic = traffic
        self.service = service
        self.history = history
        self.heartbeat_s = heartbeat_s
        self._maximum = maximum
        #: Set to those of the live streams, with which they count.
        self.places = StreamPlaces()
        self._open = 0
        self.stopping = asyncio.Event()

    def refusal(self, tenant: str) -> Response | None:
        """Return the answer to a further reader, who is asked to come back later; None while there is room."""
        if self._open >= self._maximum or self.stopping.is_set():
            return RetryLaterResponse()
        reason = self.places.refusal(tenant)
        return RetryLaterResponse(reason) if reason else None

    @contextlib.contextmanager
    def counted(self, tenant: str) -> Iterator[None]:
        """Count a stream while it is open."""
        self._open += 1
        try:
            with self.places.counted(tenant):
                yield
        finally:
            self._open -= 1


class StreamOfFrames(Response):
    """Response of server-sent events that ends when the client leaves, its key is revoked or the process stops."""

    def __init__(
        self,
        readers: ReplayReaders,
        tenant: str,
        write_all: Callable[[Callable[[bytes], Awaitable[None]]], Awaitable[None]],
        revoked: Callable[[], Awaitable[None]],
    ) -> None:
        """``write_all`` gets a function that writes bytes at the client's pace, and ends the stream by returning.

        ``revoked`` returns when the client's key is no longer valid.
        """
        super().__init__(status_code=200)
        self._readers, self._tenant = readers, tenant
        self._write_all = write_all
        self._revoked = revoked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def write(data: bytes) -> None:
            async with asyncio.timeout(_BLOCKED_S):
                await send({"type": "http.response.body", "body": data, "more_body": True})

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                continue

        if refusal := self._readers.refusal(self._tenant):
            await refusal(scope, receive, send)
            return
        with self._readers.counted(self._tenant):
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            if scope.get(IS_HEAD):
                await send({"type": "http.response.body", "body": b""})
                return
            tasks = [
                asyncio.ensure_future(coroutine)
                for coroutine in (self._write_all(write), leave(), self._readers.stopping.wait(), self._revoked())
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end(*tasks)
            gone = tasks[1] in done
            if tasks[0] in done and (error := tasks[0].exception()) is not None:
                if not isinstance(error, SaccadeError | TimeoutError | OSError):
                    raise error
                # The client resumes by its id.
                log.warning("a replay's stream was closed: %s", str(error) or type(error).__name__)
                gone = gone or isinstance(error, TimeoutError | OSError)
            if not gone:
                with contextlib.suppress(OSError):
                    await send({"type": "http.response.body", "body": b""})


class ReplayReader:
    """Writes one stream."""

    def __init__(self, readers: ReplayReaders, replay: Replay, after: int) -> None:
        """Go on after a sequence."""
        self._service = readers.service
        self._history = readers.history
        self._heartbeat_s = readers.heartbeat_s
        self._replay = replay
        self._position = after
        self._schedule = Schedule(replay.plan.pace)
        self._traffic = readers.traffic
        self._live_first = LiveFirst(readers.traffic)
        self._sent = 0

    async def write_all(self, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write the stream.

        Raises:
            SaccadeError, OSError, TimeoutError: it was cut off; the reader resumes.
        """
        self._write = write
        replay, plan = self._replay, self._replay.plan
        resumed_after = self._position if self._position > plan.window.after else None
        self._sent = await self._service.planner.count(plan, self._position)
        fields: dict[str, Any] = {
            "replay": replay.id,
            "into": str(plan.into),
            "count": plan.count,
            "speed": plan.pace.speed,
            "after": f"{plan.window.epoch}.{plan.window.after}",
            "until": f"{plan.window.epoch}.{plan.window.until}",
            "resumed_after": resumed_after,
        }
        await write(stream_head() + frame(OPENED, _json(fields)))
        state = await self._play()
        closed = {"replay": replay.id, "state": str(state), "sent": self._sent, "count": plan.count}
        await write(frame(CLOSED, _json(closed), f"{replay.id}.{_END}"))

    async def _play(self) -> ReplayState:
        """Write the events, record the end, and return how the replay ended for this reader.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        replay, state = self._replay, ReplayState.COMPLETED
        try:
            await self._until_running()
            self._service.check_branch(replay)
            await self._write_events()
            await self._service.complete(replay, ReplayCounts(sent=self._sent))
        except ReplayEnded:
            ended = self._service.records.get(replay.id)
            state = ended.state_at(self._service.now()) if ended else ReplayState.FAILED
        except SaccadeError as error:
            if error.code in TRANSIENT:
                raise
            log.warning("replay %s: %s", replay.id, error)
            await self._service.fail(replay, ReplayCounts(sent=self._sent), error)
            state = ReplayState.FAILED
        return state

    async def _write_events(self) -> None:
        """Write what is left, each event when it is due.

        Raises:
            ReplayEnded: it was cancelled.
        """
        loop = asyncio.get_running_loop()
        plan = self._replay.plan
        frames: list[bytes] = []
        size, reached, oldest = 0, self._position, 0.0
        async for event in self._history.read(
            self._position, plan.window.until, plan.selection.filters(), batch_events=self._traffic.batch_events
        ):
            due = self._schedule.due(event.time, loop.time())
            now = loop.time()
            if frames and (size >= _CHUNK_BYTES or max(due, now) > oldest + _TOGETHER_S or self._held):
                await self._flush(frames, reached)
                frames, size = [], 0
            oldest = oldest if frames else max(due, now)
            if due > loop.time() or self._held:
                await self._wait_until(due)
            frames.append(self._frame(event))
            size += len(frames[-1])
            reached = event.sequence
            await self._live_first.turn()
        if frames:
            await self._flush(frames, reached)
        self._report(plan.window.until)

    @property
    def _held(self) -> bool:
        replay = self._service.records.get(self._replay.id)
        return replay is None or replay.state not in (ReplayState.RUNNING, ReplayState.COMPLETED)

    async def _flush(self, frames: list[bytes], reached: int) -> None:
        await self._write(b"".join(frames))
        self._sent += len(frames)
        self._report(reached)

    def _report(self, sequence: int) -> None:
        counts = ReplayCounts(sent=self._sent)
        self._service.board.report(self._replay.id, ReplayProgress(sequence=sequence, counts=counts))

    def _frame(self, event: HistoryEvent) -> bytes:
        # A file gets the line of the archive's format, which has the event's own bytes and when it was stored.
        data = encode_line(event).rstrip(b"\n") if self._replay.plan.into.kind == "file" else event.body
        return frame(event.type, data, f"{self._replay.id}.{event.sequence}")

    async def _wait_until(self, due: float) -> None:
        """Wait until an event is due and the replay is not paused.

        Raises:
            ReplayEnded: it was cancelled.
        """
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            if self._held:
                since = loop.time()
                await self._until_running()
                due = self._schedule.delay(loop.time() - since)
            wait_s = due - loop.time()
            if wait_s <= 0:
                return
            await self._service.records.changed(min(wait_s, self._heartbeat_s))
            self._live_first.rested()
            if loop.time() - written >= self._heartbeat_s:
                await self._write(HEARTBEAT)
                written = loop.time()

    async def _until_running(self) -> None:
        """Wait while the replay is planned or paused. What was read before can be read again after the end.

        Raises:
            ReplayEnded: it was cancelled, has failed or was never started.
        """
        loop = asyncio.get_running_loop()
        written = loop.time()
        while True:
            replay = self._service.records.get(self._replay.id)
            state = replay.state_at(self._service.now()) if replay else ReplayState.FAILED
            if state in (ReplayState.RUNNING, ReplayState.COMPLETED):
                return
            if state.ended:
                raise ReplayEnded
            await self._service.records.changed(1.0)
            if loop.time() - written >= self._heartbeat_s:
                await self._write(HEARTBEAT)
                written = loop.time()


def _json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
