"""Interface of a running live session, in addition to ``Context``.

A session is ``run(params, context) -> SessionResult``: it takes frames until ``context.ending``, acknowledges each,
reports figures and exports chunks of its model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from contracts.errors import SaccadeError
from contracts.events.session import FrameTotals, StopReason
from modal_workers.runtime.context import Context
from modal_workers.runtime.sessions.frame import SessionFrame
from modal_workers.runtime.sessions.joint_track import JointState


class LiveContext(Context, Protocol):
    """Everything a session may use while it runs."""

    @property
    def ending(self) -> bool:
        """Whether the session must end: stop requested, idle, or at its maximum length."""

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
