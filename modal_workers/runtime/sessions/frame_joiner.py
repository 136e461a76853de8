"""Join of a session's frames and joints: recorded telemetry first, then live; frames wait for their joints."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from threading import RLock
from typing import Final

from contracts.errors import SaccadeError
from contracts.events.session import SessionFrameAcked
from contracts.session import SessionLaunch
from contracts.telemetry import FrameAck, JointBatch
from modal_workers.runtime.sessions.clock_offsets import ClockOffsets
from modal_workers.runtime.sessions.frame import SessionFrame, read_frame
from modal_workers.runtime.sessions.frame_queue import FrameQueue
from modal_workers.runtime.sessions.joint_track import JointState, JointTrack
from modal_workers.runtime.sessions.resume_position import RecordedSession, ReplayedVerdicts, ResumePosition
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage

#: How long a frame waits for a joint sample after it. Joints that are posted over a line of 200 ms round trip arrive up
#: to as much later than the frame, because each request waits for the previous one.
_JOINTS_WAIT_S: Final = 1.0


class FrameJoiner:
    """Frames and joints of one session: filled on the loop thread, read on the session's thread."""

    def __init__(self, bus: SessionBus, launch: SessionLaunch) -> None:
        """Read the telemetry from ``bus``."""
        self._bus = bus
        self._launch = launch
        self._clocks = ClockOffsets()
        self._track = JointTrack(self._clocks)
        self._lock = RLock()
        self._after = 0
        #: Telemetry sequences of the frames that were added, by key.
        self._added: dict[tuple[str, int], int] = {}
        self._replay: deque[SessionFrame | None] = deque()
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resets = 0
        self.queue = FrameQueue(time.time)
        #: Accepted frames after the position that were described by an earlier run.
        self.past_frames: dict[tuple[str, int], SessionFrame] = {}
        self.last_frame_at_s = time.time()
        self.replay_ended = False
        self.last_idle_steps: int | None = None

    async def start(
        self, position: ResumePosition, *, resumed: bool, described: Mapping[str, int] | None = None
    ) -> None:
        """Read the recorded telemetry: after ``position``, or all of the session that is replayed.

        ``described`` has for each source the newest frame that a durable text describes: accepted frames up to it are
        not repeated.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        self._loop = asyncio.get_running_loop()
        if self._launch.replay_of is not None:
            await self._start_replay(self._launch.replay_of, position, resumed=resumed)
            return
        recording = RecordedSession(position.done)
        if resumed:
            await self._bus.read_recorded(self._bus.session_id, self._add_to(recording), position.after)
            self.queue = FrameQueue(time.time, totals=recording.totals or position.totals)
            for step in recording.steps:
                if step is None:
                    continue
                if step.seq <= (described or {}).get(step.source, -1):
                    self._added.setdefault(step.key, step.sequence)
                    self.past_frames[step.key] = step
                else:
                    self._add_frame(replace(step, is_counted=True))
            self.queue.mark_acknowledged([*position.done, *recording.acknowledged])
            for frame in recording.unacknowledged:
                self._add_frame(frame)
        self._after = max(recording.last_sequence, position.after)

    async def _start_replay(self, replay_of: str, position: ResumePosition, *, resumed: bool) -> None:
        """Read the recording; a resumed replay goes on after the newest frame that its saved state contains.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        recording, told = RecordedSession(), ReplayedVerdicts(position.totals)
        await self._bus.read_recorded(replay_of, self._add_to(recording))
        if resumed:
            await self._bus.read_recorded(self._bus.session_id, told.add)
            self.queue = FrameQueue(time.time, totals=told.totals)
        self._after = -1  # replayed frames have the sequence 0
        self._added = dict.fromkeys(position.done, 0)
        contained = (number for number, step in enumerate(recording.steps) if step and step.key in self._added)
        for step in recording.steps[max(contained, default=-1) + 1 :]:
            self._replay.append(step and replace(step, is_counted=step.key in told.keys))
        self.last_idle_steps = recording.last_idle_steps
        for frame in recording.refused:
            if frame.key not in told.keys:
                self.queue.put(frame)

    def _add_to(self, recording: RecordedSession) -> Callable[[TelemetryMessage], None]:
        """Return a handler that adds recorded frames and acknowledgements to ``recording``, joints to the track."""

        def on_recorded(message: TelemetryMessage) -> None:
            if message.name == "acks":
                recording.add_acks(SessionFrameAcked.model_validate_json(message.body), message.sequence)
            elif message.name == "frames":
                recording.add_frame(self._read_frame(message))
            elif message.name == "joints":
                self._add_joints(message)

        return on_recorded

    async def run(self) -> None:
        """Add live frames and joints until cancelled, or the recorded ones of a replay."""
        if self._launch.replay_of is None:
            await self._bus.follow(self._on_live, self._after)
        else:
            await self._run_replay()

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait for a new frame or acknowledgement, at most ``timeout_s``."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return

    def take(self, wait_s: float) -> SessionFrame | None:
        """Return the next frame with known joints, else one that has waited ``_JOINTS_WAIT_S``; None without one."""
        return self.queue.take(wait_s, self._has_joints) or self.queue.take(0.0, self._is_overdue)

    def take_chunk(self, max_frames: int, span_s: float, wait_s: float) -> list[SessionFrame]:
        """Return the frames of the next chunk, whether their joints are known or not; none without one."""
        return self.queue.take_chunk(max_frames, span_s, wait_s)

    def joints_at(self, frame: SessionFrame) -> JointState | None:
        """Return the joints at a frame's capture time; of a recorded frame the recorded joints."""
        with self._lock:
            if frame.recorded_ack is not None:
                ack = frame.recorded_ack
                if ack.positions is None:
                    return None
                return JointState(self._track.names, ack.positions, ack.joints_gap_s or 0.0)
            return self._track.at(self._captured_at_s(frame))

    def accept(self, frame: SessionFrame, details: FrameAck) -> None:
        """Acknowledge a frame as accepted."""
        self.queue.accept(frame, details)
        self.notify()

    def reject(self, frame: SessionFrame, error: SaccadeError) -> None:
        """Acknowledge a frame as rejected."""
        self.queue.reject(frame, error.code, error.message)
        self.notify()

    def take_reset(self) -> bool:
        """Return True once for each reset in the recording."""
        if not self._resets:
            return False
        self._resets -= 1
        return True

    def done(self) -> tuple[int, tuple[tuple[str, int], ...]]:
        """Return the sequence from which to read again, and the acknowledged frames after it."""
        with self._lock:
            waiting = self.queue.unacknowledged()
            after = min((*waiting.values(), self._after + 1)) - 1
            self._added = {key: sequence for key, sequence in self._added.items() if sequence > after}
            return after, tuple(key for key in self._added if key not in waiting)

    def _has_joints(self, frame: SessionFrame) -> bool:
        with self._lock:
            return not self._track.samples or self._track.covers(self._captured_at_s(frame))

    def _is_overdue(self, frame: SessionFrame) -> bool:
        return time.time() - frame.arrived_at_s > _JOINTS_WAIT_S

    def _captured_at_s(self, frame: SessionFrame) -> float:
        """Return the capture time by the server's clock, with the current offset."""
        return frame.sent_at_s + self._clocks.offset_s(f"frames {frame.source}")

    def _on_live(self, message: TelemetryMessage) -> None:
        if message.name == "frames":
            self.last_frame_at_s = time.time()
            self._add_frame(self._read_frame(message))
        elif message.name == "joints":
            self._add_joints(message)
        self._after = message.sequence
        self._changed.set()

    def _add_frame(self, frame: SessionFrame) -> None:
        with self._lock:
            self._added.setdefault(frame.key, frame.sequence)
        self.queue.put(frame)

    def notify(self) -> None:
        """End a ``wait_for_change``; from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    def _read_frame(self, message: TelemetryMessage) -> SessionFrame:
        frame = read_frame(message.headers, message.body, sequence=message.sequence, arrived_at_s=message.stored_at_s)
        source = f"frames {frame.source}"
        with self._lock:
            self._clocks.observe(
                source, captured_at_s=frame.sent_at_s, arrived_at_s=frame.arrived_at_s, stated=frame.clock
            )
            return replace(frame, captured_at_s=frame.sent_at_s + self._clocks.offset_s(source))

    def _add_joints(self, message: TelemetryMessage) -> None:
        with self._lock:
            self._track.add(JointBatch.model_validate_json(message.body), message.stored_at_s)
        self.queue.wake()  # after the lock: ``take`` asks for it while it holds the queue's

    async def _run_replay(self) -> None:
        """Add the recorded frames at their recorded intervals."""
        frames = [step for step in self._replay if step is not None]
        started_s, first_s = time.time(), frames[0].arrived_at_s if frames else 0.0
        while self._replay:
            step = self._replay.popleft()
            if step is None:
                await self._wait_until_drained()
                self._resets += 1
                await self._wait_until_drained()  # a frame that is overdue would be taken before the reset
                continue
            due_s = started_s + step.arrived_at_s - first_s
            await asyncio.sleep(max(0.0, due_s - time.time()))
            self.last_frame_at_s = time.time()
            self._add_frame(replace(step, captured_at_s=due_s, sequence=0))
        await self._wait_until_drained()
        self.replay_ended = True

    async def _wait_until_drained(self) -> None:
        """Wait until the session has worked through all added frames and resets."""
        while self.queue.unacknowledged() or self._resets:
            await self.wait_for_change(0.02)
