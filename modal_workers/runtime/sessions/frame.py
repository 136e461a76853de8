"""One camera frame of a live session, as received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.telemetry import (
    FRAME_CAPTURED,
    FRAME_CLOCK_OFFSET,
    FRAME_REFUSED,
    FRAME_SEQ,
    FRAME_SOURCE,
    SEQ_END,
    TIME_END_S,
    Clock,
    FrameAck,
)


@dataclass(frozen=True)
class SessionFrame:
    """Encoded image with its number and its capture time by the server's clock, unix seconds."""

    source: str
    seq: int
    captured_at_s: float
    #: Capture time by the sender's clock.
    sent_at_s: float
    arrived_at_s: float
    image: bytes
    #: Sequence in the TELEMETRY stream.
    sequence: int
    clock: Clock | None = None
    #: Why the gateway refused it; such a frame has no image.
    refusal_reason: str | None = None
    #: Acknowledgement of an earlier run, or of the replayed session, to be repeated by this run.
    recorded_ack: FrameAck | None = None
    #: Whether an earlier run of this session has published and counted that acknowledgement.
    is_counted: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Identity of the frame within its session."""
        return self.source, self.seq


def read_frame(headers: Mapping[str, str], body: bytes, *, sequence: int, arrived_at_s: float) -> SessionFrame:
    """Parse a telemetry message into a frame; ``captured_at_s`` is still by the sender's clock.

    Raises:
        ValueError: the headers are invalid.
    """
    captured_at_s = float(headers.get(FRAME_CAPTURED, arrived_at_s))
    offset = headers.get(FRAME_CLOCK_OFFSET)
    if not 0 < captured_at_s < TIME_END_S or (offset is not None and not abs(float(offset)) < TIME_END_S):
        raise ValueError("the frame's capture time or clock offset is out of range")
    if not 0 <= (seq := int(headers.get(FRAME_SEQ, ""))) < SEQ_END:
        raise ValueError("the frame's number is out of range")
    return SessionFrame(
        source=headers.get(FRAME_SOURCE, "camera")[:64],
        seq=seq,
        captured_at_s=captured_at_s,
        sent_at_s=captured_at_s,
        arrived_at_s=arrived_at_s,
        image=body,
        sequence=sequence,
        clock=None if offset is None else Clock(offset_s=float(offset), error_s=0.0),
        refusal_reason=headers.get(FRAME_REFUSED),
    )
