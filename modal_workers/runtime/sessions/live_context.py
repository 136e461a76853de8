"""Interface of a running live session, in addition to ``Context``.

A session is ``run(params, context) -> SessionResult``: it takes frames until ``context.ending``, acknowledges each,
reports figures and exports chunks of its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from contracts.errors import SaccadeError
from contracts.events.base import EventData
from contracts.events.session import (
    FrameTotals,
    SessionAlert,
    SessionPromptRequested,
    SessionText,
    SessionTextDelta,
    StopReason,
)
from contracts.session import SessionLaunch
from modal_workers.runtime.context import Context
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.joint_track import JointState


class LiveContext(Context, Protocol):
    """Everything a session may use while it runs."""

    @property
    def ending(self) -> bool:
        """Whether the session must end: stop requested, idle, or at its maximum length."""

    def restart_idle_time(self) -> None:
        """Count the time without a frame from now on: until now the worker was not ready for one."""

    @property
    def stop_reason(self) -> StopReason:
        """Why the session ends."""

    @property
    def totals(self) -> FrameTotals:
        """Counts of all frames so far."""

    @property
    def chunks(self) -> int:
        """Number of chunks exported so far, including earlier runs."""

    @property
    def replaying(self) -> bool:
        """Whether the session replays a recording: the steps between frames must be the recorded ones."""

    def saved_state(self) -> Path | None:
        """Return the state saved with the last chunk or reset; None for a new session."""

    def next_frame(self, wait_s: float) -> SessionFrame | None:
        """Return the next frame, once its joints have arrived or are overdue; None after ``wait_s`` without one.

        Raises:
            Stopped: the run was asked to stop.
        """

    def joints_at(self, frame: SessionFrame) -> JointState | None:
        """Return the joints at the frame's capture time; None if no sample is near enough."""

    def accept(self, frame: SessionFrame, *, joints: JointState | None, idle_steps: int, steps: int) -> None:
        """Acknowledge a frame as accepted, with its joints and the optimisation steps before it and on it."""

    def reject(self, frame: SessionFrame, error: SaccadeError) -> None:
        """Acknowledge a frame as rejected, unusable by itself; its sender is told the error's code and message."""

    def take_reset(self) -> bool:
        """Return True once for each requested reset."""

    def save_after_reset(self, state: Path) -> None:
        """Save the state after a reset, so that no later run resumes from before it."""

    def report(self, figures: dict[str, Any], *, frame: SessionFrame | None = None) -> None:
        """Report figures; may be called often, the newest are sent a few times a second."""

    def publish(self, path: Path, name: str, media_type: str) -> None:
        """Upload a newer version of a growing file, atomically."""

    def export_chunk(self, path: Path, state: Path, figures: dict[str, Any]) -> None:
        """Upload a chunk of the model and save the state with it; publishes ``session.chunk_exported``."""

    def finish(self, idle_steps: int) -> None:
        """Acknowledge all waiting frames, and report the steps since the newest accepted frame."""

    @property
    def recorded_idle_steps(self) -> int | None:
        """Steps after the last accepted frame of the replayed session."""

    # -- sessions that describe video -----------------------------------------------------------------------------

    @property
    def launch(self) -> SessionLaunch:
        """What the session was opened with."""

    @property
    def run_id(self) -> str:
        """Id of this run, as in its events."""

    def next_chunk(self, max_frames: int, span_s: float, wait_s: float) -> Sequence[SessionFrame]:
        """Return the frames of the next chunk, oldest first; none after ``wait_s`` without a chunk.

        A chunk is complete when ``max_frames`` frames wait, or ``span_s`` after the first of them came. Of more frames,
        ``max_frames`` are returned that are spread evenly over their time, the newest among them; the others are
        acknowledged as dropped, ``superseded``.

        Raises:
            Stopped: the run was asked to stop.
        """

    @property
    def past_texts(self) -> Sequence[SessionText]:
        """The newest texts that earlier runs published since the last reset, oldest first."""

    @property
    def past_frames(self) -> Sequence[SessionFrame]:
        """Newest frame of each past text, as far as it comes after the saved position and is still stored."""

    @property
    def texts(self) -> int:
        """Number of the newest text of the session that is stored."""

    @property
    def prompts(self) -> Sequence[SessionPromptRequested]:
        """Questions that no text has answered yet, oldest first."""

    @property
    def cancel_sequence(self) -> int:
        """Sequence of the newest request to end the text that is being generated; 0 without one."""

    def say(self, text: SessionText) -> None:
        """Publish the text of a chunk, once however often it is repeated."""

    def say_delta(self, delta: SessionTextDelta) -> None:
        """Publish the newest part of a text; never blocks, and only the newest is sent when many come."""

    def alert(self, alert: SessionAlert) -> None:
        """Publish an alert, once however often it is repeated."""

    def save_position(self) -> None:
        """Save from where a next run reads the telemetry."""

    def stored_events(self) -> list[EventData]:
        """Return every event of the session so far, in order, once those of this run are stored.

        Raises:
            Stopped: the run was asked to stop.
            SaccadeError: BUS_UNAVAILABLE.
        """
