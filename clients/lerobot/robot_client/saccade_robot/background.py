"""Work of the streamer's thread: open the session, choose NATS or HTTP, send, and measure the clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from saccade_robot.clock import Exchange, Offset, OffsetFilter, estimate_offset, now_s
from saccade_robot.errors import RobotClientError
from saccade_robot.frames import CameraQueue, EncodedFrame, FrameEncoder
from saccade_robot.http_link import HttpLink
from saccade_robot.nats_link import NatsLink
from saccade_robot.outbox import Batch, Outbox
from saccade_robot.target import IngestTarget
from saccade_robot.verdicts import Verdicts, verdicts_of

log = logging.getLogger(__name__)

#: HTTP is used after NATS has been down for so long.
_NATS_DOWN_S: Final = 2.0
#: Messages in flight at once; others wait in the rings, which drop the oldest.
_WINDOW: Final = 256
_FRAMES_WINDOW: Final = 4
_FRAMES_S: Final = 0.01
_CLOCK_EVERY_S: Final = 30.0
_CLOCK_AGAIN_S: Final = 0.5
_HTTP_PAUSE_S: Final = 0.5
_VERDICTS_EVERY_S: Final = 2.0
_POLL_S: Final = 0.05
_END_S: Final = 0.5
#: Pause after a refusal, whose reason the user may fix meanwhile.
_REFUSED_PAUSE_S: Final = 20.0
_OPEN_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)


class BackgroundSender:
    """Sender in a background thread; created in any thread, run in one."""

    def __init__(
        self,
        target: IngestTarget | Callable[[], IngestTarget],
        *,
        outbox: Outbox,
        cameras: Mapping[str, CameraQueue],
        frames: FrameEncoder,
        every_s: float,
        on_close: Callable[[], None] | None,
    ) -> None:
        """Prepare; ``run`` checks every ``every_s`` for something to send."""
        self._to = target
        self.outbox = outbox
        self._cameras = cameras
        self._frames = frames
        self._every_s = every_s
        self._on_close = on_close
        self._target = IngestTarget()
        self._nats: NatsLink | None = None
        self._http: HttpLink | None = None
        self._frame_numbers: deque[int] = deque()
        self._own_errors = 0
        self._deadline_s: float | None = None
        self._ended = False
        self._is_open = False
        self._gave_up = False
        self.offset: Offset | None = None
        #: Frames by verdict, as the session reported them last; None before its first answer.
        self.verdicts: Verdicts | None = None
        self._offsets = OffsetFilter()

    @property
    def reconnects(self) -> int:
        """Number of NATS reconnections."""
        return self._nats.reconnects if self._nats else 0

    @property
    def errors(self) -> int:
        """Number of errors, including failed connections."""
        links = (self._nats, self._http, self._frames)
        return self._own_errors + sum(link.errors for link in links if link is not None)

    @property
    def route(self) -> str | None:
        """The route in use: ``nats``, ``http`` or None."""
        if self._ended:
            return None
        if self._nats is not None and self._nats.flowing:
            return "nats"
        if self._http is not None and (self._nats is None or self._nats.down_s > _NATS_DOWN_S or self._stopping):
            return "http"
        return None

    def stop(self, deadline_s: float) -> None:
        """Request that it sends what waits and ends before the deadline; callable from any thread."""
        self._deadline_s = deadline_s

    @property
    def _stopping(self) -> bool:
        return self._deadline_s is not None

    @property
    def _past_deadline(self) -> bool:
        return self._deadline_s is not None and time.monotonic() > self._deadline_s

    async def run(self) -> None:
        """Send until stopped."""
        opening = asyncio.ensure_future(self._open())
        if not await self._until_deadline(opening) or not opening.result():
            self._gave_up = True
            if self._is_open:
                await asyncio.get_running_loop().run_in_executor(None, self._closed)
            return
        works = [self._send_joints, self._send_frames, self._measure_clock, self._read_verdicts]
        if self._nats is not None:
            works.append(self._nats.run)
        tasks = [asyncio.ensure_future(self._restarting(work)) for work in works]
        # The first two end when everything that was offered before the stop is sent.
        for sending in tasks[:2]:
            await self._until_deadline(sending)
        await self._end(tasks)

    async def _until_deadline(self, task: asyncio.Future[Any]) -> bool:
        """Wait for a task until the deadline, then cancel it; return whether it ended in time."""
        while not self._past_deadline:
            if (await asyncio.wait([task], timeout=_POLL_S))[0]:
                return True
        task.cancel()
        await asyncio.wait([task], timeout=_END_S)
        return False

    async def _end(self, tasks: Sequence[asyncio.Future[None]]) -> None:
        if self._nats is not None and self._nats.flowing and self._deadline_s is not None:
            await self._nats.confirm(max(0.05, self._deadline_s - time.monotonic()))
        self._ended = True
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_END_S)
        if self._nats is not None:
            await asyncio.wait([asyncio.ensure_future(self._nats.close())], timeout=_END_S)
        if self._http is not None:
            self._http.close()
        if self._on_close is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._closed)

    def _closed(self) -> None:
        try:
            if self._on_close is not None:
                self._on_close()
        except Exception as error:  # noqa: BLE001 - the caller's function may raise anything
            self._own_errors += 1
            log.warning("on_close failed: %s", error)

    async def _restarting(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run some work until it returns; restart it after an error."""
        while True:
            try:
                return await work()
            except Exception:  # noqa: PERF203 - the loop restarts the work
                self._own_errors += 1
                log.exception("error while streaming; streaming continues")
                await asyncio.sleep(_HTTP_PAUSE_S)

    def _opened(self, opens: Callable[[], IngestTarget]) -> IngestTarget:
        """Open the session; close it at once if the streamer has ended meanwhile."""
        target = opens()
        self._is_open = True
        if self._gave_up:
            self._closed()
        return target

    async def _open(self) -> bool:
        """Open the session, with retries; return whether it was opened before the stop."""
        failures, last_error = 0, ""
        while not isinstance(self._to, IngestTarget):
            try:
                self._to = await asyncio.get_running_loop().run_in_executor(None, self._opened, self._to)
            except Exception as error:  # noqa: BLE001, PERF203 - it is logged and tried again
                self._own_errors += 1
                if last_error != (last_error := str(error) or type(error).__name__):
                    log.warning("no session yet: %s", last_error)
                if self._stopping:
                    return False
                retryable = isinstance(error, RobotClientError) and error.retryable
                pause_s = _OPEN_PAUSES_S[min(failures, len(_OPEN_PAUSES_S) - 1)] if retryable else _REFUSED_PAUSE_S
                await asyncio.sleep(pause_s)
                failures += 1
        self._target = self._to
        if self._target.nats is not None:
            confirm_s = 4 * self._every_s
            self._nats = NatsLink(self._target.nats, self.outbox.confirm, self.outbox.requeue_in_flight, confirm_s)
        if self._target.http is not None:
            self._http = HttpLink(self._target.http.joints, self._target.http.key)
        return True

    async def _send_joints(self) -> None:
        while True:
            stopping = self._stopping
            await self._send_waiting()
            if stopping and (not self.outbox.waiting or self._past_deadline):
                return
            await asyncio.sleep(self._every_s)

    async def _send_waiting(self) -> None:
        route = self.route
        if route == "http":
            # Send again what NATS has not confirmed; readers know such samples by their numbers.
            self.outbox.requeue_in_flight()
            await self._send_batch(self._post)
        while route == "nats" and self._nats is not None and self._nats.flowing and self._nats.unconfirmed < _WINDOW:
            if not await self._send_batch(self._publish):
                return

    async def _send_batch(self, send: Callable[[Batch], Coroutine[Any, Any, bool]]) -> bool:
        """Send the next batch, or queue it again; return whether more may be sent at once."""
        batch = self.outbox.next()
        if batch is None:
            return False
        settled = False
        try:
            settled = await send(batch)
        finally:
            if not settled:
                self.outbox.put_back(batch)
        return settled

    async def _publish(self, batch: Batch) -> bool:
        if self._nats is None or self._target.nats is None:
            return False
        number = await self._nats.publish(self._target.nats.joints, batch.body)
        if number is not None:
            self.outbox.sent_as(batch, number)
        return number is not None

    async def _post(self, batch: Batch) -> bool:
        if self._http is None or self._target.http is None:
            return False
        json = {"Content-Type": "application/json"}
        arrived = await self._http.post("joints", self._target.http.joints, batch.body, json)
        if arrived is None:
            await asyncio.sleep(_HTTP_PAUSE_S)
        elif arrived:
            self.outbox.arrived(batch)
        else:
            self.outbox.refuse(batch)
        return arrived is not None

    async def _send_frames(self) -> None:
        while True:
            stopping = self._stopping
            for camera in list(self._cameras.values()):
                route = self.route
                full = route == "nats" and self._frames_in_flight >= _FRAMES_WINDOW
                if route is not None and not full and (taken := camera.take()) is not None:
                    await self._send_frame(camera, taken, route)
            if stopping and (self._past_deadline or not any(camera.waiting for camera in self._cameras.values())):
                return
            await asyncio.sleep(_FRAMES_S)

    async def _send_frame(self, camera: CameraQueue, taken: tuple[int, float, Any], route: str) -> None:
        sent = False
        try:
            loop = asyncio.get_running_loop()
            frame = await loop.run_in_executor(None, self._frames.encode, camera.name, *taken)
            sent = frame is not None and await self._deliver(frame, route)
        finally:
            camera.sent += sent
            camera.failed += not sent

    @property
    def _frames_in_flight(self) -> int:
        """Number of frames that NATS has not confirmed; over a slow line more of them would only get old."""
        confirmed = self._nats.confirmed if self._nats is not None else 0
        while self._frame_numbers and self._frame_numbers[0] <= confirmed:
            self._frame_numbers.popleft()
        return len(self._frame_numbers)

    async def _deliver(self, frame: EncodedFrame, route: str) -> bool:
        if route == "nats" and self._nats is not None and self._target.nats is not None:
            number = await self._nats.publish(self._target.nats.frames, frame.body, frame.headers)
            if number is not None:
                self._frame_numbers.append(number)
            return number is not None
        if self._http is None or self._target.http is None:
            return False
        arrived = await self._http.post("frames", self._target.http.frames, frame.body, frame.http_headers)
        if arrived is None:
            await asyncio.sleep(_HTTP_PAUSE_S)
        return bool(arrived)

    async def _read_verdicts(self) -> None:
        """Read the verdicts on the frames from the session, since NATS answers nothing; log each new rejection."""
        logged = ""
        while True:
            await asyncio.sleep(_VERDICTS_EVERY_S)
            if self._http is None or self._target.http is None or self._target.http.session is None:
                return
            read = verdicts_of(await self._http.read(self._target.http.session))
            self.verdicts = read or self.verdicts
            if read is not None and read.last_rejection and read.reason != logged:
                logged = read.reason
                log.warning("the session rejects frames (%d so far): %s", read.rejected, read.last_rejection)

    async def _measure_clock(self) -> None:
        while True:
            exchanges: list[Exchange] = []
            if self._nats is not None:
                exchanges = await self._nats.measure_clock()
            if not exchanges and self._http is not None and self._target.http is not None:
                exchanges = await self._http.measure_clock(self._target.http.clock)
            measured = estimate_offset(exchanges)
            if measured is not None:
                self.offset = self._offsets.add(measured, now_s())
            await asyncio.sleep(_CLOCK_AGAIN_S if measured is None else _CLOCK_EVERY_S)
