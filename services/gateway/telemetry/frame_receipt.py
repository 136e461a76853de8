"""Receipt of a frame: whether it was accepted at the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from contracts.errors import ErrorCode, SaccadeError


@dataclass(frozen=True)
class FrameReceipt:
    """Receipt of one frame. The worker's verdict on an accepted one follows in ``session.frame_acked``."""

    #: None for a message whose header cannot be read.
    source: str | None
    seq: int | None
    #: Frames of the session that came through this gateway and have no verdict yet, this one included.
    queue_depth: int
    #: Why the frame was refused; None if it is stored for the worker.
    error: SaccadeError | None = None

    @property
    def status(self) -> Literal["accepted", "dropped", "rejected"]:
        """Return ``accepted``: stored for the worker; ``rejected``; or ``dropped``: above its camera's rate limit."""
        if self.error is None:
            return "accepted"
        return "dropped" if self.error.code is ErrorCode.RATE_LIMITED else "rejected"

    def message(self) -> dict[str, Any]:
        """Return the acknowledgement that a client receives."""
        found: dict[str, Any] = {
            "type": "ack",
            "source": self.source,
            "seq": self.seq,
            "status": self.status,
            "reason": None if self.error is None else str(self.error.code),
            "queue_depth": self.queue_depth,
        }
        return found if self.error is None else found | {"detail": self.error.message, "hint": self.error.hint}
