"""What the streamer's thread does: finds its session, chooses the way there, sends, and measures the clock."""

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

log = logging.getLogger(__name__)

#: NATS is down for so long before the slower way is taken.
_PATIENCE_S: Final = 2.0
#: Messages on their way at once; what is more waits in the rings, which know what to drop.
_WINDOW: Final = 256
_FRAMES_WINDOW: Final = 4
_FRAMES_S: Final = 0.01
_CLOCK_EVERY_S: Final = 30.0
_CLOCK_AGAIN_S: Final = 0.5
_HTTP_PAUSE_S: Final = 0.5
_LOOK_S: Final = 0.05
_END_S: Final = 0.5
#: What is refused is so for a reason, which somebody may put right meanwhile.
_REFUSED_PAUSE_S: Final = 20.0
_OPEN_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0)


class BackgroundSender:
    """All that is not the control loop's; made in any thread, run in one."""

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
        """Do nothing yet; ``every_s`` it looks for something to send."""
        self._to = target
        self.outbox = outbox
        self._cameras = cameras
        self._frames = frames
        self._every_s = every_s
        self._on_close = on_close
        self._target = IngestTarget()
        self._nats: NatsLink | None = None
        self._http: HttpLink | None = None
        self._frame_marks: deque[int] = deque()
        self._own_errors = 0
        self._deadline_s: float | None = None
        self._ended = False
        self.offset: Offset | None = None
        self._offsets = OffsetFilter()

    @property
    def reconnects(self) -> int:
        """Count how often NATS came back."""
        return self._nats.reconnects if self._nats else 0

    @property
    def errors(self) -> int:
        """Count what went wrong, tries to connect included."""
        links = (self._nats, self._http, self._frames)
        return self._own_errors + sum(link.errors for link in links if link is not None)

    @property
    def route(self) -> str | None:
        """Name the way that is taken at present."""
        if self._ended:
            return None
        if self._nats is not None and self._nats.flowing:
            return "nats"
        if self._http is not None and (self._nats is None or self._nats.down_s > _PATIENCE_S or self._stopping):
            return "http"
        return None

    def stop(self, deadline_s: float) -> None:
        """Ask it to send what waits and to end, until then at the latest; from any thread."""
        self._deadline_s = deadline_s

    @property
    def _stopping(self) -> bool:
        return self._deadline_s is not None

    @property
    def _late(self) -> bool:
        return self._deadline_s is not None and time.monotonic() > self._deadline_s

    async def run(self) -> None:
        """Work until stopped."""
        opening = asyncio.ensure_future(self._open())
        if not await self._until_late(opening) or not opening.result():
            return
        works = [self._send_joints, self._send_frames, self._keep_time]
        if self._nats is not None:
            works.append(self._nats.run)
        tasks = [asyncio.ensure_future(self._lasting(work)) for work in works]
        # The first two end by themselves when all is sent that was offered before the end.
        for sending in tasks[:2]:
            await self._until_late(sending)
        await self._end(tasks)

    async def _until_late(self, task: asyncio.Future[Any]) -> bool:
        """Wait for a task, and tell whether it ended in time; else it is cancelled."""
        while not self._late:
            if (await asyncio.wait([task], timeout=_LOOK_S))[0]:
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
        except Exception as error:  # noqa: BLE001 - it is the caller's, and nobody is left to tell
            self._own_errors += 1
            log.warning("at the end: %s", error)

    async def _lasting(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do some work until it ends as it should: an error is counted, and the work begins anew."""
        while True:
            try:
                return await work()
            except Exception:  # noqa: PERF203 - it is the loop that goes on
                self._own_errors += 1
                log.exception("streaming goes on after an error")
                await asyncio.sleep(_HTTP_PAUSE_S)

    async def _open(self) -> bool:
        """Find out where to send to, however often that must be asked; tell whether it was found before the end."""
        failures, said = 0, ""
        while not isinstance(self._to, IngestTarget):
            try:
                self._to = await asyncio.get_running_loop().run_in_executor(None, self._to)
            except Exception as error:  # noqa: BLE001, PERF203 - it is logged and tried again
                self._own_errors += 1
                if said != (said := str(error) or type(error).__name__):
                    log.warning("no session yet: %s", said)
                if self._stopping:
                    return False
                passing = isinstance(error, RobotClientError) and error.passing
                pause_s = _OPEN_PAUSES_S[min(failures, len(_OPEN_PAUSES_S) - 1)] if passing else _REFUSED_PAUSE_S
                await asyncio.sleep(pause_s)
                failures += 1
        self._target = self._to
        if self._target.nats is not None:
            confirm_s = 4 * self._every_s
            self._nats = NatsLink(self._target.nats, self.outbox.confirm, self.outbox.take_back, confirm_s)
        if self._target.http is not None:
            self._http = HttpLink(self._target.http.joints, self._target.http.key)
        return True

    async def _send_joints(self) -> None:
        while True:
            stopping = self._stopping
            await self._send_waiting()
            if stopping and (not self.outbox.waiting or self._late):
                return
            await asyncio.sleep(self._every_s)

    async def _send_waiting(self) -> None:
        route = self.route
        if route == "http":
            # What NATS has not confirmed is sent again this way; whoever has it knows it by its numbers.
            self.outbox.take_back()
            await self._send_batch(self._post)
        while route == "nats" and self._nats is not None and self._nats.flowing and self._nats.unconfirmed < _WINDOW:
            if not await self._send_batch(self._publish):
                return

    async def _send_batch(self, send: Callable[[Batch], Coroutine[Any, Any, bool]]) -> bool:
        """Send the next batch; tell whether there may be more to send at once. None gets lost on the way."""
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
        mark = await self._nats.publish(self._target.nats.joints, batch.body)
        if mark is not None:
            self.outbox.left(batch, mark)
        return mark is not None

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
                full = route == "nats" and self._frames_under_way >= _FRAMES_WINDOW
                if route is not None and not full and (taken := camera.take()) is not None:
                    await self._send_frame(camera, taken, route)
            if stopping and (self._late or not any(camera.waiting for camera in self._cameras.values())):
                return
            await asyncio.sleep(_FRAMES_S)

    async def _send_frame(self, camera: CameraQueue, taken: tuple[int, float, Any], route: str) -> None:
        sent = False
        try:
            loop = asyncio.get_running_loop()
            frame = await loop.run_in_executor(None, self._frames.make, camera.name, *taken)
            sent = frame is not None and await self._deliver(frame, route)
        finally:
            camera.sent += sent
            camera.failed += not sent

    @property
    def _frames_under_way(self) -> int:
        """Count frames that NATS has not confirmed: over a slow line more of them would only get old."""
        confirmed = self._nats.confirmed if self._nats is not None else 0
        while self._frame_marks and self._frame_marks[0] <= confirmed:
            self._frame_marks.popleft()
        return len(self._frame_marks)

    async def _deliver(self, frame: EncodedFrame, route: str) -> bool:
        if route == "nats" and self._nats is not None and self._target.nats is not None:
            mark = await self._nats.publish(self._target.nats.frames, frame.body, frame.headers)
            if mark is not None:
                self._frame_marks.append(mark)
            return mark is not None
        if self._http is None or self._target.http is None:
            return False
        arrived = await self._http.post("frames", self._target.http.frames, frame.body, frame.http_headers)
        if arrived is None:
            await asyncio.sleep(_HTTP_PAUSE_S)
        return bool(arrived)

    async def _keep_time(self) -> None:
        while True:
            exchanges: list[Exchange] = []
            if self._nats is not None:
                exchanges = await self._nats.ask_time()
            if not exchanges and self._http is not None and self._target.http is not None:
                exchanges = await self._http.ask_time(self._target.http.clock)
            measured = estimate_offset(exchanges)
            if measured is not None:
                self.offset = self._offsets.take(measured, now_s())
            await asyncio.sleep(_CLOCK_AGAIN_S if measured is None else _CLOCK_EVERY_S)
