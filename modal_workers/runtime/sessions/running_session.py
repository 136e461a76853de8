"""``LiveContext`` of a running session, on NATS, the bucket and local disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Final

from contracts.assignment import Assignment
from contracts.errors import SaccadeError
from contracts.events import session as events
from contracts.events.base import Message
from contracts.events.session import (
    FrameTotals,
    SessionChunkExported,
    SessionProgressed,
    SessionReady,
    SessionStarted,
)
from contracts.session import Session, SessionLaunch
from contracts.telemetry import FrameAck
from modal_workers.runtime.jobs.job_context import JobContext, RunParts
from modal_workers.runtime.jobs.run_termination import RunTermination
from modal_workers.runtime.retry import while_unavailable
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.frame_joiner import FrameJoiner
from modal_workers.runtime.sessions.joint_track import JointState
from modal_workers.runtime.sessions.resume_position import POSITION_NAME, ResumePosition
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.stop import StopCause

log = logging.getLogger(__name__)

#: Minimum interval between two published figures.
_FIGURES_INTERVAL_S: Final = 0.25


class RunningSession(JobContext):
    """``LiveContext`` for the session's own thread."""

    def __init__(
        self,
        assignment: Assignment,
        launch: SessionLaunch,
        parts: RunParts,
        bus: SessionBus,
        termination: RunTermination,
    ) -> None:
        """Serve one run of the session."""
        super().__init__(assignment, parts)
        self._launch = launch
        self._bus = bus
        self._termination = termination
        self._position = ResumePosition()
        self._joiner = FrameJoiner(bus, launch)
        self._pending: deque[tuple[Message, Message]] = deque()
        self._pending_lock = threading.Lock()
        self._figures: tuple[dict[str, Any], float | None] | None = None
        self._published_at_s = 0.0
        self._stop_requested = False
        self._reset_sequence = 0
        self._reset_seen = 0
        self._stop_reason: events.StopReason = "asked"
        self._last_idle_steps = 0

    # -- life cycle ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the resume position, read the telemetry after it, follow it live and publish ``session.ready``."""
        saved = self.checkpoint(POSITION_NAME)
        if saved is not None:
            self._position = ResumePosition.model_validate_json(saved.read_bytes())
            self._reset_seen = self._position.reset_sequence
        resumed = saved is not None or self._run.attempt > 1
        self._thread.wait(
            while_unavailable(lambda: self._joiner.start(self._position, resumed=resumed), "telemetry"), self._stop
        )
        for task in (
            self._bus.watch(self._on_session),
            self._bus.serve_clock(),
            self._joiner.run(),
            self._publish_pending(),
        ):
            self._thread.start(task).add_done_callback(self._check)
        ready = SessionReady(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            device=self._run.device,
            resumed_from_chunk=len(self._position.chunks) if resumed else None,
        )
        self._enqueue_event(ready, f"{self._run.run_id}.ready")

    def finish(self, idle_steps: int) -> None:
        """Acknowledge all waiting frames and wait until every acknowledgement is stored."""
        self._joiner.queue.drop_waiting("session_ended")
        acks, totals = self._joiner.queue.take_acks()
        self._enqueue_acks(self._bus.encode_acks(acks, totals, last_idle_steps=idle_steps))
        self._flush_acks()

    @property
    def launch(self) -> SessionLaunch:
        """Parameters that the session was opened with."""
        return self._launch

    @property
    def ending(self) -> bool:
        """Whether the session must end; sets ``stop_reason``."""
        self._stop.check()
        now_s = time.time()
        if self._stop_requested or self._joiner.replay_ended:
            self._stop_reason = "asked"
        elif self._launch.replay_of is None and now_s - self._joiner.last_frame_at_s > self._launch.idle_timeout_s:
            self._stop_reason = "idle"
        elif now_s - self._launch.opened_at.timestamp() > self._launch.max_length_s:
            self._stop_reason = "length"
        else:
            return False
        return True

    @property
    def stop_reason(self) -> events.StopReason:
        """Why the session ends."""
        return self._stop_reason

    @property
    def totals(self) -> FrameTotals:
        """Counts of all frames so far."""
        return self._joiner.queue.totals

    @property
    def chunks(self) -> int:
        """Number of chunks exported so far, including earlier runs."""
        return len(self._position.chunks)

    @property
    def replaying(self) -> bool:
        """Whether the session replays a recording."""
        return self._launch.replay_of is not None

    @property
    def recorded_idle_steps(self) -> int | None:
        """Steps after the last accepted frame of the replayed session."""
        return self._joiner.last_idle_steps

    # -- frames -------------------------------------------------------------------------------------------------

    def saved_state(self) -> Path | None:
        """Return the state saved with the last chunk or reset; None for a new session."""
        return None if self._position.state is None else self.checkpoint(self._position.state)

    def next_frame(self, wait_s: float) -> SessionFrame | None:
        """Return the next frame, once its joints have arrived or are overdue; None after ``wait_s`` without one."""
        self._stop.check()
        return self._joiner.take(wait_s)

    def joints_at(self, frame: SessionFrame) -> JointState | None:
        """Return the joints at the frame's capture time; None if no sample is near enough."""
        return self._joiner.joints_at(frame)

    def accept(self, frame: SessionFrame, *, joints: JointState | None, idle_steps: int, steps: int) -> None:
        """Acknowledge a frame as accepted."""
        details = FrameAck(
            source=frame.source,
            seq=frame.seq,
            status="accepted",
            age_s=0.0,
            queue_depth=0,
            positions=None if joints is None else joints.positions,
            joints_gap_s=None if joints is None else round(joints.gap_s, 6),
            idle_steps=idle_steps,
            steps=steps,
        )
        self._joiner.accept(frame, details)
        if not self._position.started:
            self._position = self._position.model_copy(update={"started": True})
            self._enqueue_event(SessionStarted(run_id=self._run.run_id), f"{self._bus.session_id}.started")

    def reject(self, frame: SessionFrame, error: SaccadeError) -> None:
        """Acknowledge a frame as rejected."""
        self._joiner.reject(frame, error)

    def take_reset(self) -> bool:
        """Return True once for each requested reset."""
        if self._joiner.take_reset():
            return True
        requested = self._reset_sequence > self._reset_seen
        self._reset_seen = max(self._reset_seen, self._reset_sequence)
        return requested

    def save_after_reset(self, state: Path) -> None:
        """Save the state after a reset."""
        if not self.replaying:
            self._joiner.queue.drop_waiting("reset")
        acks, totals = self._joiner.queue.take_acks()
        self._enqueue_acks(self._bus.encode_acks(acks, totals, reset=True))
        self._save_state(state)

    # -- output -------------------------------------------------------------------------------------------------

    def report(self, figures: dict[str, Any], *, frame: SessionFrame | None = None) -> None:
        """Set the figures to publish next; never blocks."""
        age_s = None if frame is None else round(time.time() - frame.captured_at_s, 4)
        self._figures = (figures, age_s)

    def publish(self, path: Path, name: str, media_type: str) -> None:
        """Upload a newer version of a growing file, atomically."""
        self._thread.wait(self._artifacts.replace(path, name, media_type), self._stop)

    def export_chunk(self, path: Path, state: Path, figures: dict[str, Any]) -> None:
        """Upload a chunk of the model and save the state with it."""
        number = self.chunks + 1
        name = f"chunk_{number:04d}{path.suffix}"
        artifact = self.save(path, name, "application/octet-stream", title=f"The model after chunk {number}")
        chunks = (*self._position.chunks, artifact)
        self._position = self._position.model_copy(update={"chunks": chunks})
        self._save_state(state)
        exported = SessionChunkExported(
            run_id=self._run.run_id, chunk=number, artifact=artifact, totals=self.totals, figures=figures
        )
        self._enqueue_event(exported, f"{self._bus.session_id}.chunk.{number}")

    # -- internals ----------------------------------------------------------------------------------------------

    def _save_state(self, state: Path) -> None:
        """Save the state, then the position that names it, once every acknowledgement up to here is stored."""
        # The position comes first: frames acknowledged from here on are found by their stored acknowledgements.
        after, done = self._joiner.done()
        self._flush_acks()
        name = "state-b" if self._position.state == "state-a" else "state-a"
        self.keep(state, name)
        self._position = self._position.model_copy(
            update={
                "state": name,
                "after": after,
                "done": done,
                "totals": self.totals,
                "reset_sequence": self._reset_seen,
            }
        )
        path = self.scratch / POSITION_NAME
        path.write_text(self._position.model_dump_json())
        self.keep(path, POSITION_NAME)

    def _check(self, task: Future[None]) -> None:
        """Stop a session whose background task has failed; its next attempt resumes from the newest chunk."""
        if not task.cancelled() and (error := task.exception()):
            log.error("a background task of the session failed", exc_info=error)
            self._stop.request(StopCause.SIGNAL)

    def _on_session(self, session: Session) -> None:
        self._stop_requested = session.stop_requested
        self._reset_sequence = session.reset_sequence

    def _enqueue_event(self, data: Any, event_id: str) -> None:
        self._writer.enqueue(data, event_id, self._stop, subject_id=self._bus.session_id)

    def _enqueue_acks(self, messages: list[tuple[Message, Message]]) -> None:
        with self._pending_lock:
            self._pending.extend(messages)

    def _flush_acks(self) -> None:
        """Wait until every acknowledgement so far is stored.

        Raises:
            Stopped: a stop was requested meanwhile.
        """
        acks, totals = self._joiner.queue.take_acks()
        if acks:
            self._enqueue_acks(self._bus.encode_acks(acks, totals))
        while self._pending:
            self._stop.check()
            time.sleep(0.01)

    async def _publish_pending(self) -> None:
        """Publish acknowledgements in order, and the newest figures, until cancelled."""
        while True:
            acks, totals = self._joiner.queue.take_acks()
            if acks:
                self._enqueue_acks(self._bus.encode_acks(acks, totals))
            while self._pending:
                telemetry, progress = self._pending[0]
                publish = partial(self._bus.publish_acks, telemetry, progress)
                await while_unavailable(publish, "acknowledgements")
                with self._pending_lock:
                    self._pending.popleft()
            await self._publish_figures()
            await self._joiner.wait_for_change(0.05)

    async def _publish_figures(self) -> None:
        now_s = time.monotonic()
        if self._figures is None or now_s - self._published_at_s < _FIGURES_INTERVAL_S:
            return
        (figures, age_s), self._figures, self._published_at_s = self._figures, None, now_s
        progressed = SessionProgressed(
            run_id=self._run.run_id,
            totals=self.totals,
            figures=figures,
            frame_age_s=age_s,
            cost_usd=self._termination.cost().usd,
        )
        await while_unavailable(lambda: self._bus.publish_figures(progressed), "figures")
