"""The world of a running session, for real: what ``LiveContext`` promises, on the bus, the bucket and local disk."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from contracts.assignment import Assignment
from contracts.errors import ErrorCode
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
from modal_workers.runtime.bus.event_writer import EventWriter
from modal_workers.runtime.files.artifacts import ArtifactStore
from modal_workers.runtime.files.workspace import Workspace
from modal_workers.runtime.jobs.job_context import JobContext
from modal_workers.runtime.jobs.progress import ProgressMeter
from modal_workers.runtime.jobs.run_termination import LastWords
from modal_workers.runtime.loop_thread import LoopThread
from modal_workers.runtime.retry import patiently
from modal_workers.runtime.sessions.frame import Frame
from modal_workers.runtime.sessions.frame_joiner import Feed
from modal_workers.runtime.sessions.joint_track import Joints
from modal_workers.runtime.sessions.resume_position import POSITION_NAME, Position
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.stop import Stop, StopReason

log = logging.getLogger(__name__)

#: Figures are shown this often at most, seconds.
_SHOW_S: Final = 0.25


class RunningSession(JobContext):
    """A ``LiveContext`` for the session's own thread."""

    def __init__(
        self,
        assignment: Assignment,
        launch: SessionLaunch,
        *,
        bus: SessionBus,
        last_words: LastWords,
        thread: LoopThread,
        writer: EventWriter,
        meter: ProgressMeter,
        workspace: Workspace,
        artifacts: ArtifactStore,
        stop: Stop,
    ) -> None:
        """Put the parts together."""
        super().__init__(
            assignment,
            thread=thread,
            writer=writer,
            meter=meter,
            workspace=workspace,
            artifacts=artifacts,
            stop=stop,
        )
        self._launch = launch
        self._bus = bus
        self._last_words = last_words
        self._position = Position()
        self._feed = Feed(bus, launch)
        self._pending: deque[tuple[Message, Message]] = deque()
        self._pumped = threading.Lock()
        self._shown: tuple[dict[str, Any], float | None] | None = None
        self._shown_at_s = 0.0
        self._stop_requested = False
        self._reset_sequence = 0
        self._reset_seen = 0
        self._reason: events.StopReason = "asked"
        self._last_idle_steps = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Find out how far the session was, take what is recorded after it, follow what comes, and say ``ready``."""
        kept = self.checkpoint(POSITION_NAME)
        if kept is not None:
            self._position = Position.model_validate_json(kept.read_bytes())
            self._reset_seen = self._position.reset_sequence
        resumed = kept is not None or self._run.attempt > 1
        self._thread.wait(patiently(lambda: self._feed.begin(self._position, resumed=resumed), "telemetry"), self._stop)
        for background in (self._bus.watch(self._told), self._bus.tell_time(), self._feed.run(), self._pump()):
            self._thread.start(background).add_done_callback(self._check)
        ready = SessionReady(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            device=self._run.device,
            resumed_from_chunk=len(self._position.chunks) if resumed else None,
        )
        self._say(ready, f"{self._run.run_id}.ready")

    def end(self, idle_steps: int) -> None:
        """Judge what still waits and see that every verdict is stored."""
        self._feed.inbox.drop_waiting("session_ended")
        acks, totals = self._feed.inbox.verdicts()
        self._enqueue(self._bus.acked(acks, totals, last_idle_steps=idle_steps))
        self._flush()

    @property
    def launch(self) -> SessionLaunch:
        """What the session was opened with."""
        return self._launch

    @property
    def ending(self) -> bool:
        """Tell whether the session is to end."""
        self._stop.check()
        now_s = time.time()
        if self._stop_requested or self._feed.exhausted:
            self._reason = "asked"
        elif self._launch.replay_of is None and now_s - self._feed.heard_at_s > self._launch.idle_timeout_s:
            self._reason = "idle"
        elif now_s - self._launch.opened_at.timestamp() > self._launch.max_length_s:
            self._reason = "length"
        else:
            return False
        return True

    @property
    def reason(self) -> events.StopReason:
        """Why it ends."""
        return self._reason

    @property
    def totals(self) -> FrameTotals:
        """Frames so far."""
        return self._feed.inbox.totals

    @property
    def chunks(self) -> int:
        """Chunks that were exported so far."""
        return len(self._position.chunks)

    @property
    def replaying(self) -> bool:
        """Tell whether all frames come from a record."""
        return self._launch.replay_of is not None

    @property
    def recorded_idle_steps(self) -> int | None:
        """Give the steps after the last frame that the record tells of."""
        return self._feed.last_idle_steps

    # -- frames -------------------------------------------------------------------------------------------------

    def restored(self) -> Path | None:
        """Give the state that was kept with the last chunk."""
        return None if self._position.state is None else self.checkpoint(self._position.state)

    def frame(self, wait_s: float) -> Frame | None:
        """Give the next frame, once joints for it have come or are long due."""
        self._stop.check()
        return self._feed.take(wait_s)

    def joints_at(self, frame: Frame) -> Joints | None:
        """Give the joints at the frame's capture time."""
        return self._feed.joints_at(frame)

    def accept(self, frame: Frame, *, joints: Joints | None, idle_steps: int, steps: int) -> None:
        """Say that the frame was worked on."""
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
        self._feed.accept(frame, details)
        if not self._position.started:
            self._position = self._position.model_copy(update={"started": True})
            self._say(SessionStarted(run_id=self._run.run_id), f"{self._bus.session_id}.started")

    def reject(self, frame: Frame, code: ErrorCode) -> None:
        """Say that the frame is of no use by itself."""
        self._feed.reject(frame, code)

    def take_reset(self) -> bool:
        """Tell, once, that the session is to begin anew."""
        if self._feed.take_reset():
            return True
        asked = self._reset_sequence > self._reset_seen
        self._reset_seen = max(self._reset_seen, self._reset_sequence)
        return asked

    def began_anew(self, state: Path) -> None:
        """Keep the state after a reset."""
        if not self.replaying:
            self._feed.inbox.drop_waiting("reset")
        acks, totals = self._feed.inbox.verdicts()
        self._enqueue(self._bus.acked(acks, totals, reset=True))
        self._keep(state)

    # -- what it leaves -----------------------------------------------------------------------------------------

    def show(self, figures: dict[str, Any], *, frame: Frame | None = None) -> None:
        """Show how it is going."""
        age_s = None if frame is None else round(time.time() - frame.captured_at_s, 4)
        self._shown = (figures, age_s)

    def publish(self, path: Path, name: str, media_type: str) -> None:
        """Put a newer version of a growing file into the bucket."""
        self._thread.wait(self._artifacts.replace(path, name, media_type), self._stop)

    def export_chunk(self, path: Path, state: Path, figures: dict[str, Any]) -> None:
        """Leave a chunk of the model and keep the state with it."""
        number = self.chunks + 1
        name = f"chunk_{number:04d}{path.suffix}"
        artifact = self.save(path, name, "application/octet-stream", title=f"The model after chunk {number}")
        chunks = (*self._position.chunks, artifact)
        self._position = self._position.model_copy(update={"chunks": chunks})
        self._keep(state)
        exported = SessionChunkExported(
            run_id=self._run.run_id, chunk=number, artifact=artifact, totals=self.totals, figures=figures
        )
        self._say(exported, f"{self._bus.session_id}.chunk.{number}")

    # -- inside -------------------------------------------------------------------------------------------------

    def _keep(self, state: Path) -> None:
        """Keep the state, then the position that names it, once every verdict up to here is stored."""
        # In this order: what is judged from here on is not counted as done, and is found by its stored verdict.
        after, done = self._feed.done()
        self._flush()
        place = "state-b" if self._position.state == "state-a" else "state-a"
        self.keep(state, place)
        self._position = self._position.model_copy(
            update={
                "state": place,
                "after": after,
                "done": done,
                "totals": self.totals,
                "reset_sequence": self._reset_seen,
            }
        )
        path = self.scratch / POSITION_NAME
        path.write_text(self._position.model_dump_json())
        self.keep(path, POSITION_NAME)

    def _check(self, background: Future[None]) -> None:
        """End a session that has become deaf or dumb: its next attempt goes on from the newest chunk."""
        if not background.cancelled() and (error := background.exception()):
            log.error("the session's runtime broke", exc_info=error)
            self._stop.ask(StopReason.SIGNAL)

    def _told(self, session: Session) -> None:
        self._stop_requested = session.stop_requested
        self._reset_sequence = session.reset_sequence

    def _say(self, data: Any, event_id: str) -> None:
        self._writer.say(data, event_id, self._stop, subject_id=self._bus.session_id)

    def _enqueue(self, messages: list[tuple[Message, Message]]) -> None:
        with self._pumped:
            self._pending.extend(messages)

    def _flush(self) -> None:
        """Wait until every verdict so far is stored.

        Raises:
            Stopped: the run was asked to stop meanwhile.
        """
        acks, totals = self._feed.inbox.verdicts()
        if acks:
            self._enqueue(self._bus.acked(acks, totals))
        while self._pending:
            self._stop.check()
            time.sleep(0.01)

    async def _pump(self) -> None:
        """Store verdicts in their order, and show figures, for ever."""
        while True:
            acks, totals = self._feed.inbox.verdicts()
            if acks:
                self._enqueue(self._bus.acked(acks, totals))
            while self._pending:
                kept, shown = self._pending[0]
                await patiently(lambda kept=kept, shown=shown: self._bus.store_acked(kept, shown), "verdicts")  # type: ignore[misc]
                with self._pumped:
                    self._pending.popleft()
            await self._show_newest()
            await self._feed.changed(0.05)

    async def _show_newest(self) -> None:
        now_s = time.monotonic()
        if self._shown is None or now_s - self._shown_at_s < _SHOW_S:
            return
        (figures, age_s), self._shown, self._shown_at_s = self._shown, None, now_s
        progressed = SessionProgressed(
            run_id=self._run.run_id,
            totals=self.totals,
            figures=figures,
            frame_age_s=age_s,
            cost_usd=self._last_words.cost().usd,
        )
        await patiently(lambda: self._bus.show(progressed), "figures")
