"""What streams into a live session: batches of joint positions, and what is said of each frame.

Times are unix seconds of the sender's own clock at the moment of capture, as floats (a quarter of a microsecond in
this century). A sender that knows how far its clock is off says so; where none is said, the worker estimates it.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.limits import JOINT_SAMPLES, JOINTS

#: Headers of a frame on NATS; over HTTP they are the headers of the request, with ``X-`` in front.
FRAME_SEQ: Final = "Frame-Seq"
FRAME_CAPTURED: Final = "Frame-Captured-At"
FRAME_CLOCK_OFFSET: Final = "Frame-Clock-Offset"
FRAME_SOURCE: Final = "Frame-Source"
#: Set by the gateway on a frame that is refused at its door: the worker counts it, and there are no bytes.
FRAME_REFUSED: Final = "Frame-Refused"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]
TimeS = Annotated[float, Field(gt=0, lt=1e11, allow_inf_nan=False)]


class Clock(BaseModel):
    """How far the sender's clock is from the server's: ``server = sender + offset``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    offset_s: Finite
    error_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class JointSample(NamedTuple):
    """All joints at one instant; travels as ``[seq, captured_at_s, [positions]]``, and raw values or none."""

    seq: Annotated[int, Field(ge=0, lt=1 << 53)]
    captured_at_s: TimeS
    positions: tuple[Finite, ...]
    raw: tuple[Finite, ...] | None = None


class JointBatch(BaseModel):
    """Samples of one robot, oldest first: parallel arrays as in ``sensor_msgs/JointState``, names mandatory.

    ``unit`` is ``rad``, or ``native`` where the sender cannot convert; nothing is computed from native values.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: Name = "arm"
    names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=JOINTS)]
    unit: Literal["rad", "native"]
    samples: Annotated[tuple[JointSample, ...], Field(min_length=1, max_length=JOINT_SAMPLES)]
    clock: Clock | None = None
    #: Counters of the sender since it began: offered by the robot, and dropped before they could be sent.
    offered: Annotated[int, Field(ge=0)] | None = None
    dropped: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _one_position_a_joint(self) -> JointBatch:
        if len(set(self.names)) != len(self.names):
            raise ValueError("the joints' names must differ")
        for sample in self.samples:
            for values in (sample.positions, sample.raw):
                if values is not None and len(values) != len(self.names):
                    raise ValueError(f"sample {sample.seq} has {len(values)} values for {len(self.names)} joints")
        return self


class FrameAck(BaseModel):
    """What became of one frame."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    seq: int
    status: Literal["accepted", "dropped", "rejected"]
    #: Why it was not accepted: ``superseded`` by a newer one, ``repeated`` or ``late`` number, or an error's code.
    reason: str | None = None
    #: From its capture (server's clock) to this verdict.
    age_s: float
    #: Frames that waited behind it.
    queue_depth: int
    #: Of an accepted frame: the joint positions it was paired with, in the order of the names, and how far from it in
    #: time the nearest sample was; steps of work before and on it. A replay does as much with the same.
    positions: tuple[float, ...] | None = None
    joints_gap_s: float | None = None
    idle_steps: int | None = None
    steps: int | None = None

    @model_validator(mode="after")
    def _finite(self) -> FrameAck:
        if not math.isfinite(self.age_s):
            raise ValueError("an age is finite")
        return self
