"""What flows into a session: the record of what was, then what comes; frames wait until their joints are known."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import replace
from threading import RLock
from typing import Final

from contracts.errors import ErrorCode
from contracts.events.session import SessionFrameAcked
from contracts.session import SessionLaunch
from contracts.telemetry import FrameAck, JointBatch
from modal_workers.runtime.sessions.clocks import Clocks
from modal_workers.runtime.sessions.frame import Frame, read_frame
from modal_workers.runtime.sessions.frame_queue import Inbox
from modal_workers.runtime.sessions.joint_track import Joints, JointTrack
from modal_workers.runtime.sessions.resume_position import Position, Record
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.sessions.telemetry_tail import Recorded

#: A frame waits so long for a sample after it; then the samples that there are must do. Joints that are posted over a
#: line of 200 ms there and back come up to as much later than the frame, since each request waits for the one before.
_JOINTS_WAIT_S: Final = 1.0


class Feed:
    """Frames and joints of one session. Read on the loop's thread, taken from on the session's."""

    def __init__(self, bus: SessionBus, launch: SessionLaunch) -> None:
        """Take from ``bus``."""
        self._bus = bus
        self._launch = launch
        self._clocks = Clocks()
        self._track = JointTrack(self._clocks)
        self._lock = RLock()
        self._after = 0
        #: Frames that were taken in: their places in the telemetry.
        self._taken_in: dict[tuple[str, int], int] = {}
        self._replay: deque[Frame | None] = deque()
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resets = 0
        self.inbox = Inbox(time.time)
        self.heard_at_s = time.time()
        self.exhausted = False
        self.last_idle_steps: int | None = None

    async def begin(self, position: Position, *, resumed: bool) -> None:
        """Go on from a position; a session that is replayed takes the whole record of the other one.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        self._loop = asyncio.get_running_loop()
        record = Record(position.done)
        replayed = self._launch.replay_of

        def on_recorded(recorded: Recorded) -> None:
            if recorded.name == "acks":
                record.acked(SessionFrameAcked.model_validate_json(recorded.body), recorded.sequence)
            elif recorded.name == "frames":
                record.frame(self._frame(recorded))
            elif recorded.name == "joints":
                self._joints(recorded)

        if replayed is not None:
            await self._bus.recorded(replayed, on_recorded)
            done = set(position.done)
            self._replay.extend(step for step in record.steps if step is None or step.key not in done)
            self.last_idle_steps = record.last_idle_steps
            for frame in () if resumed else record.refused:
                self.inbox.put(frame)
            return
        if resumed:
            await self._bus.recorded(self._bus.session_id, on_recorded, position.after)
            self.inbox = Inbox(time.time, totals=record.totals or position.totals)
            for step in record.steps:
                if step is not None:
                    self._take_in(replace(step, counted=True))
            self.inbox.judged_before([*position.done, *record.judged])
            for frame in record.unjudged:
                self._take_in(frame)
        self._after = max(record.last, position.after)

    async def run(self) -> None:
        """Bring in what comes, or what is replayed, for ever."""
        if self._launch.replay_of is None:
            await self._bus.follow(self._on_live, self._after)
        else:
            await self._pace()

    async def changed(self, timeout_s: float) -> None:
        """Wait until there is a new verdict, at most so long."""
        self._news.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return

    def take(self, wait_s: float) -> Frame | None:
        """Give the next frame whose joints are known as well as they will be.

        Where joints are late but come, a frame that has them goes before a newer one that has waited for long enough.
        """
        return self.inbox.take(wait_s, self._known) or self.inbox.take(0.0, self._waited)

    def joints_at(self, frame: Frame) -> Joints | None:
        """Give the joints at a frame's time; of a frame that was worked on before, those that it was paired with."""
        with self._lock:
            if frame.recorded is not None:
                told = frame.recorded
                if told.positions is None:
                    return None
                return Joints(self._track.names, told.positions, told.joints_gap_s or 0.0)
            return self._track.at(self._captured_at_s(frame))

    def accept(self, frame: Frame, details: FrameAck) -> None:
        """Give the verdict."""
        self.inbox.accept(frame, details)
        self._tell()

    def reject(self, frame: Frame, code: ErrorCode) -> None:
        """Give the verdict."""
        self.inbox.reject(frame, code)
        self._tell()

    def take_reset(self) -> bool:
        """Tell, once, that the record begins anew here."""
        if not self._resets:
            return False
        self._resets -= 1
        return True

    def done(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """Give the telemetry after which it has to be read again, and the frames after it that are done."""
        with self._lock:
            waiting = self.inbox.unjudged()
            after = min((*waiting.values(), self._after + 1)) - 1
            self._taken_in = {key: sequence for key, sequence in self._taken_in.items() if sequence > after}
            return after, tuple(key for key in self._taken_in if key not in waiting)

    def _known(self, frame: Frame) -> bool:
        with self._lock:
            return not self._track.samples or self._track.covers(self._captured_at_s(frame))

    def _waited(self, frame: Frame) -> bool:
        return time.time() - frame.arrived_at_s > _JOINTS_WAIT_S

    def _captured_at_s(self, frame: Frame) -> float:
        """Give the capture time by the server's clock as it is known now."""
        return frame.sent_at_s + self._clocks.offset_s(f"frames {frame.source}")

    def _on_live(self, recorded: Recorded) -> None:
        if recorded.name == "frames":
            self.heard_at_s = time.time()
            self._take_in(self._frame(recorded))
        elif recorded.name == "joints":
            self._joints(recorded)
        self._after = recorded.sequence
        self._news.set()

    def _take_in(self, frame: Frame) -> None:
        with self._lock:
            self._taken_in.setdefault(frame.key, frame.sequence)
        self.inbox.put(frame)

    def _tell(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    def _frame(self, recorded: Recorded) -> Frame:
        frame = read_frame(
            recorded.headers, recorded.body, sequence=recorded.sequence, arrived_at_s=recorded.stored_at_s
        )
        source = f"frames {frame.source}"
        with self._lock:
            self._clocks.heard(
                source, captured_at_s=frame.sent_at_s, arrived_at_s=frame.arrived_at_s, stated=frame.clock
            )
            return replace(frame, captured_at_s=frame.sent_at_s + self._clocks.offset_s(source))

    def _joints(self, recorded: Recorded) -> None:
        with self._lock:
            self._track.add(JointBatch.model_validate_json(recorded.body), recorded.stored_at_s)

    async def _pace(self) -> None:
        """Put the recorded frames in with the pauses that were between them."""
        frames = [step for step in self._replay if step is not None]
        began_s, first_s = time.time(), frames[0].arrived_at_s if frames else 0.0
        while self._replay:
            step = self._replay.popleft()
            if step is None:
                await self._worked_off()
                self._resets += 1
                continue
            due_s = began_s + step.arrived_at_s - first_s
            await asyncio.sleep(max(0.0, due_s - time.time()))
            self.heard_at_s = time.time()
            self._take_in(replace(step, captured_at_s=due_s, sequence=0))
        await self._worked_off()
        self.exhausted = True

    async def _worked_off(self) -> None:
        """Wait until the session has gone through all that was put in."""
        while self.inbox.totals.waiting or self._resets:
            await self.changed(0.02)
