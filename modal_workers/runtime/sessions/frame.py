"""One frame of a live session, as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from contracts.telemetry import (
    FRAME_CAPTURED,
    FRAME_CLOCK_OFFSET,
    FRAME_REFUSED,
    FRAME_SEQ,
    FRAME_SOURCE,
    Clock,
    FrameAck,
)


@dataclass(frozen=True)
class Frame:
    """A picture with its number and when it was captured, by the server's clock."""

    source: str
    seq: int
    captured_at_s: float
    #: The sender's statement, before any clock was corrected.
    sent_at_s: float
    arrived_at_s: float
    picture: bytes
    #: Its place in the stream of telemetry.
    sequence: int
    clock: Clock | None = None
    #: Why it was refused at the door, if it was; it has no bytes then.
    refused: str | None = None
    #: The verdict of an earlier run, or of the session that is replayed: this one does the same.
    recorded: FrameAck | None = None
    #: An earlier run of this session has told and counted that verdict.
    counted: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Tell it from all other frames of its session."""
        return self.source, self.seq


def read_frame(headers: Mapping[str, str], body: bytes, *, sequence: int, arrived_at_s: float) -> Frame:
    """Read a frame as it came on the bus; ``captured_at_s`` is still by the sender's clock.

    Raises:
        ValueError: its headers are not a frame's.
    """
    captured_at_s = float(headers.get(FRAME_CAPTURED, arrived_at_s))
    offset = headers.get(FRAME_CLOCK_OFFSET)
    if not 0 < captured_at_s < 1e11 or (offset is not None and not abs(float(offset)) < 1e11):
        raise ValueError("a frame's time is not one")
    return Frame(
        source=headers.get(FRAME_SOURCE, "camera")[:64],
        seq=int(headers[FRAME_SEQ]),
        captured_at_s=captured_at_s,
        sent_at_s=captured_at_s,
        arrived_at_s=arrived_at_s,
        picture=body,
        sequence=sequence,
        clock=None if offset is None else Clock(offset_s=float(offset), error_s=0.0),
        refused=headers.get(FRAME_REFUSED),
    )
