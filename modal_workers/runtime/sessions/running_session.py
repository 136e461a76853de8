"""``LiveContext`` of a running session, on NATS, the bucket and local disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from contracts.assignment import Assignment
from contracts.errors import SaccadeError
from contracts.events import session as events
from contracts.events.base import EVENT_CLASSES, EventData, decode_at
from contracts.events.session import (
    FrameTotals,
    SessionAlert,
    SessionChunkExported,
    SessionPromptRequested,
    SessionReady,
    SessionStarted,
    SessionText,
    SessionTextDelta,
)
from contracts.session import SessionLaunch
from contracts.telemetry import FrameAck
from modal_workers.runtime.jobs.job_context import JobContext, RunParts
from modal_workers.runtime.jobs.run_termination import RunTermination
from modal_workers.runtime.retry import while_unavailable
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.frame_joiner import FrameJoiner
from modal_workers.runtime.sessions.joint_track import JointState
from modal_workers.runtime.sessions.resume_position import POSITION_NAME, ResumePosition
from modal_workers.runtime.sessions.session_bus import SessionBus
from modal_workers.runtime.sessions.session_history import SessionHistory
from modal_workers.runtime.sessions.session_outbox import SessionOutbox
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage
from modal_workers.runtime.stop import StopCause

log = logging.getLogger(__name__)

#: How long a position waits for the events before it.
_STORED_DEADLINE_S: Final = 10.0


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
        self._position = ResumePosition()
        self._joiner = FrameJoiner(bus, launch)
        self._history = SessionHistory(bus.subjects)
        self._past_texts: Sequence[SessionText] = ()
        #: Questions that this run has answered: their texts may not have come back yet.
        self._answered: set[str] = set()
        self._outbox = SessionOutbox(bus, self._joiner, assignment.run_id, lambda: termination.cost().usd, parts.stop)
        self._reset_seen = 0
        self._stop_reason: events.StopReason = "asked"

    # -- life cycle ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Read the session, load the resume position, read the telemetry after it, follow both live, publish ready."""
        self._thread.wait(
            while_unavailable(lambda: self._bus.read_events(self._history.add, self._history.sequence), "events"),
            self._stop,
        )
        self._past_texts = tuple(self._history.texts)
        saved = self.checkpoint(POSITION_NAME)
        if saved is not None:
            self._position = ResumePosition.model_validate_json(saved.read_bytes())
            self._reset_seen = self._position.reset_sequence
        # The manifest lists the files of all runs.
        earlier = (*self._position.chunks, *self._history.take_images())
        self._artifacts.saved |= {artifact.name: artifact for artifact in earlier}
        resumed = saved is not None or self._run.attempt > 1
        self._thread.wait(
            while_unavailable(
                lambda: self._joiner.start(self._position, resumed=resumed, described=self._history.described),
                "telemetry",
            ),
            self._stop,
        )
        if self._history.session is not None and self._history.session.started_at is not None:
            self._position = self._position.model_copy(update={"started": True})
        for task in (
            self._bus.follow_events(self._history.add, self._history.sequence),
            self._bus.serve_clock(),
            self._joiner.run(),
            self._outbox.run(),
        ):
            self._thread.start(task).add_done_callback(self._check)
        ready = SessionReady(
            attempt=self._run.attempt,
            run_id=self._run.run_id,
            device=self._run.device,
            resumed_from_chunk=max(len(self._position.chunks), self._history.chunk) if resumed else None,
        )
        self._enqueue_event(ready, f"{self._run.run_id}.ready")
        session = self._history.session
        reported = 0 if session is None or session.chunk is None else session.chunk.chunk
        for number in range(reported + 1, self.chunks + 1):  # the run before ended between position and event
            self._report_chunk(number)

    def finish(self, idle_steps: int) -> None:
        """Acknowledge all waiting frames and wait until every acknowledgement is stored."""
        self._joiner.queue.drop_waiting("session_ended")
        self._outbox.enqueue_acks(last_idle_steps=idle_steps)
        self._outbox.flush_acks()

    @property
    def launch(self) -> SessionLaunch:
        """Parameters that the session was opened with."""
        return self._launch

    @property
    def ending(self) -> bool:
        """Whether the session must end; sets ``stop_reason``."""
        self._stop.check()
        now_s = time.time()
        session = self._history.session
        if (session is not None and session.stop_requested) or self._joiner.replay_ended:
            self._stop_reason = "asked"
        elif self._launch.replay_of is None and now_s - self._joiner.last_frame_at_s > self._launch.idle_timeout_s:
            self._stop_reason = "idle"
        elif now_s - self._launch.opened_at.timestamp() > self._launch.max_length_s:
            self._stop_reason = "length"
        else:
            return False
        return True

    def restart_idle_time(self) -> None:
        """Count the time without a frame from now on."""
        self._joiner.last_frame_at_s = time.time()

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
        sequence = 0 if self._history.session is None else self._history.session.reset_sequence
        requested = sequence > self._reset_seen
        self._reset_seen = max(self._reset_seen, sequence)
        return requested

    def save_after_reset(self, state: Path) -> None:
        """Save the state after a reset."""
        if not self.replaying:
            self._joiner.queue.drop_waiting("reset")
        self._outbox.enqueue_acks(reset=True)
        self._save_state(state)

    # -- output -------------------------------------------------------------------------------------------------

    def report(self, figures: dict[str, Any], *, frame: SessionFrame | None = None) -> None:
        """Set the figures to publish next; never blocks."""
        age_s = None if frame is None else round(time.time() - frame.captured_at_s, 4)
        self._outbox.set_figures(figures, age_s)

    def publish(self, path: Path, name: str, media_type: str) -> None:
        """Upload a newer version of a growing file, atomically."""
        self._thread.wait(self._artifacts.replace(path, name, media_type), self._stop)

    def export_chunk(self, path: Path, state: Path, figures: dict[str, Any]) -> None:
        """Upload a chunk of the model and save the state with it."""
        number = self.chunks + 1
        name = f"chunk_{number:04d}{path.suffix}"
        artifact = self.save(path, name, "application/octet-stream", title=f"The model after chunk {number}")
        chunks = (*self._position.chunks, artifact)
        self._position = self._position.model_copy(update={"chunks": chunks, "figures": figures})
        self._save_state(state)
        self._report_chunk(number)

    def _report_chunk(self, number: int) -> None:
        """Publish that a chunk is in the bucket, once however often it is repeated."""
        exported = SessionChunkExported(
            run_id=self._run.run_id,
            chunk=number,
            artifact=self._position.chunks[number - 1],
            totals=self.totals,
            figures=self._position.figures if number == self.chunks else {},
        )
        self._enqueue_event(exported, f"{self._bus.session_id}.chunk.{number}")

    # -- words --------------------------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """Id of this run, as in its events."""
        return self._run.run_id

    def next_chunk(self, max_frames: int, span_s: float, wait_s: float) -> Sequence[SessionFrame]:
        """Return the frames of the next chunk, oldest first; none after ``wait_s`` without a chunk."""
        self._stop.check()
        return self._joiner.take_chunk(max_frames, span_s, wait_s)

    @property
    def past_texts(self) -> Sequence[SessionText]:
        """The newest texts that earlier runs published since the last reset, oldest first."""
        return self._past_texts

    @property
    def past_frames(self) -> Sequence[SessionFrame]:
        """Newest frame of each past text, as far as it comes after the saved position and is still stored."""
        keys = [(text.source, text.last_seq) for text in self._past_texts]
        frames = [self._joiner.past_frames.get((source or "", -1 if seq is None else seq)) for source, seq in keys]
        return [frame for frame in frames if frame is not None]

    @property
    def texts(self) -> int:
        """Number of the newest text of the session."""
        return self._history.chunk

    @property
    def prompts(self) -> Sequence[SessionPromptRequested]:
        """Questions that no text has answered yet, oldest first."""
        return [prompt for prompt in self._history.prompts if prompt.prompt_id not in self._answered]

    @property
    def cancel_sequence(self) -> int:
        """Sequence of the newest request to end the text that is being generated; 0 without one."""
        return 0 if self._history.session is None else self._history.session.cancel_sequence

    def say(self, text: SessionText) -> None:
        """Publish the text of a chunk, once however often it is repeated."""
        self._outbox.set_delta(None)
        # A later run repeats accepted frames without a text: no text may be stored before its frames' verdicts.
        self._outbox.flush_acks()
        if text.prompt_id is not None:
            self._answered.add(text.prompt_id)
        self._enqueue_event(text, f"{self._bus.session_id}.text.{text.chunk}")

    def say_delta(self, delta: SessionTextDelta) -> None:
        """Publish the newest part of a text; never blocks."""
        self._outbox.set_delta(delta)

    def alert(self, alert: SessionAlert) -> None:
        """Publish an alert, once however often it is repeated."""
        self._enqueue_event(alert, f"{self._bus.session_id}.alert.{alert.alert}")

    def save_position(self) -> None:
        """Save from where a next run reads the telemetry, once every text so far is stored."""
        if self._thread.wait(self._writer.flush(_STORED_DEADLINE_S), self._stop):
            self._save_state(None)

    def stored_events(self) -> list[EventData]:
        """Return every event of the session so far, in order, once those of this run are stored.

        Raises:
            Stopped: the run was asked to stop.
            SaccadeError: BUS_UNAVAILABLE.
        """
        return self._thread.wait(self._read_stored(), self._stop)

    # -- internals ----------------------------------------------------------------------------------------------

    async def _read_stored(self) -> list[EventData]:
        found: dict[int, EventData] = {}

        def on_event(message: TelemetryMessage) -> None:
            event = decode_at(self._bus.subjects.removesuffix("*") + message.name, message.body)
            if event.type in EVENT_CLASSES:
                found[message.sequence] = event.parsed()

        while not await self._writer.flush(_STORED_DEADLINE_S):
            log.warning("waiting for the bus to store the events of this run")
        await while_unavailable(lambda: self._bus.read_events(on_event, max(found, default=0)), "events")
        return [found[sequence] for sequence in sorted(found)]

    def _save_state(self, state: Path | None) -> None:
        """Save the state, then the position that names it, once every acknowledgement up to here is stored."""
        # The position comes first: frames acknowledged from here on are found by their stored acknowledgements.
        after, done = self._joiner.done()
        self._outbox.flush_acks()
        name = self._position.state
        if state is not None:
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

    def _enqueue_event(self, data: Any, event_id: str) -> None:
        self._writer.enqueue(data, event_id, self._stop, subject_id=self._bus.session_id)
