"""What a live session's worker may ask of the world, besides what every job may.

A session is ``run(params, context) -> SessionResult``: it takes frames until ``context.ending``, says of each what
became of it, shows figures and leaves chunks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from contracts.errors import ErrorCode
from contracts.events.session import FrameTotals, StopReason
from modal_workers.runtime.context import Context
from modal_workers.runtime.sessions.frame import Frame
from modal_workers.runtime.sessions.joint_track import Joints


class LiveContext(Context, Protocol):
    """The world of a running session."""

    @property
    def ending(self) -> bool:
        """Tell whether the session is to end: asked, idle, or as long as it may be; nothing more is to be taken."""

    @property
    def reason(self) -> StopReason:
        """Why it ends."""

    @property
    def totals(self) -> FrameTotals:
        """Frames so far."""

    @property
    def chunks(self) -> int:
        """Chunks that were exported so far, by earlier runs too."""

    @property
    def replaying(self) -> bool:
        """Tell whether all frames come from a record: what is done between them is what was done then."""

    def restored(self) -> Path | None:
        """Give the state that was kept with the last chunk; None when the session begins."""

    def frame(self, wait_s: float) -> Frame | None:
        """Give the next frame, once joints for it have come or are long due; None when there is none in time.

        Raises:
            Stopped: the run was asked to stop.
        """

    def joints_at(self, frame: Frame) -> Joints | None:
        """Give the joints at the frame's capture time; None when nothing near enough is known."""

    def accept(self, frame: Frame, *, joints: Joints | None, idle_steps: int, steps: int) -> None:
        """Say that the frame was worked on, with what, and with how many steps before it and on it."""

    def reject(self, frame: Frame, code: ErrorCode) -> None:
        """Say that the frame is of no use by itself."""

    def take_reset(self) -> bool:
        """Tell, once, that the session is to begin anew."""

    def began_anew(self, state: Path) -> None:
        """Keep the state after a reset, so that no later run goes on from what was before it."""

    def show(self, figures: dict[str, Any], *, frame: Frame | None = None) -> None:
        """Show how it is going; as often as one likes, the newest is sent a few times a second."""

    def publish(self, path: Path, name: str, media_type: str) -> None:
        """Put a newer version of a growing file into the bucket, whole or not at all."""

    def export_chunk(self, path: Path, state: Path, figures: dict[str, Any]) -> None:
        """Leave a chunk of the model and keep the state with it; says ``session.chunk_exported``."""

    def end(self, idle_steps: int) -> None:
        """Judge what still waits, and say how many steps were done since the newest accepted frame."""

    @property
    def recorded_idle_steps(self) -> int | None:
        """Give those steps of the session that is replayed."""
