"""Telemetry of a live session: batches of joint positions, and the verdict on each frame.

Times are Unix seconds of the sender's clock at the moment of capture, as floats (resolution 0.25 µs). A sender that
knows the offset of its clock sends it; otherwise the worker estimates it.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from contracts.limits import JOINT_SAMPLES, JOINTS

#: Headers of a frame on NATS; over HTTP they are headers of the request, with the prefix ``X-``.
FRAME_SEQ: Final = "Frame-Seq"
FRAME_CAPTURED: Final = "Frame-Captured-At"
FRAME_CLOCK_OFFSET: Final = "Frame-Clock-Offset"
FRAME_SOURCE: Final = "Frame-Source"
#: Set by the gateway on a frame that it refuses: the message has no bytes, and the worker counts it as rejected, or as
#: dropped where the reason is the gateway's rate limit (``rate_limited``).
FRAME_REFUSED: Final = "Frame-Refused"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
#: A number of JSON: neither ``true`` nor ``"5"``, which pydantic would read as 1 and 5.
Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
#: Times are below this, in Unix seconds: a time in milliseconds is above it.
TIME_END_S: Final = 1e11
TimeS = Annotated[float, Field(strict=True, gt=0, lt=TIME_END_S, allow_inf_nan=False)]
OffsetS = Annotated[float, Field(strict=True, gt=-TIME_END_S, lt=TIME_END_S, allow_inf_nan=False)]
#: Sequence numbers are below this: every float below it is exact.
SEQ_END: Final = 1 << 53


def _only_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("Input should be a valid integer")  # noqa: TRY004 - pydantic reports ValueError
    return value


#: An integer of JSON; ``5.0`` is one as well.
Count = Annotated[int, Field(ge=0), BeforeValidator(_only_number)]
Seq = Annotated[int, Field(ge=0, lt=SEQ_END), BeforeValidator(_only_number)]
#: One for each joint, which is checked below with a message of its own.
_Positions = Annotated[tuple[Finite, ...], Field(json_schema_extra={"minItems": 1, "maxItems": JOINTS})]


class Clock(BaseModel):
    """Offset of the sender's clock: ``server = sender + offset``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    offset_s: Finite
    error_s: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class JointSample(NamedTuple):
    """Positions of all joints at one time; encoded as ``[seq, captured_at_s, [positions]]``, raw values optional."""

    seq: Seq
    captured_at_s: TimeS
    positions: _Positions
    raw: _Positions | None = None


class JointBatch(BaseModel):
    """Samples of one robot, oldest first: parallel arrays as in ``sensor_msgs/JointState``, with mandatory names.

    ``unit`` is ``rad``, or ``native`` if the sender cannot convert; native values are not used in computations.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: Name = "arm"
    names: Annotated[tuple[Name, ...], Field(min_length=1, max_length=JOINTS, json_schema_extra={"uniqueItems": True})]
    unit: Literal["rad", "native"]
    samples: Annotated[tuple[JointSample, ...], Field(min_length=1, max_length=JOINT_SAMPLES)]
    clock: Clock | None = None
    #: Counters since the sender started: samples read from the robot, and samples dropped before they were sent.
    offered: Count | None = None
    dropped: Count | None = None

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
    """Verdict on one frame."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str
    seq: int
    status: Literal["accepted", "dropped", "rejected"]
    #: Reason for a frame that was not accepted: ``superseded`` by a newer one, ``repeated`` or ``late``, or an error
    #: code.
    reason: str | None = None
    #: What was wrong with a rejected frame, in a sentence.
    detail: str | None = None
    #: Time from capture (server's clock) to this verdict.
    age_s: float
    #: Frames waiting behind this one.
    queue_depth: int
    #: For an accepted frame: the joint positions assigned to it, in the order of the names; the time to the nearest
    #: sample; steps of work before the frame and on it. A replay repeats the same steps.
    positions: tuple[float, ...] | None = None
    joints_gap_s: float | None = None
    idle_steps: int | None = None
    steps: int | None = None

    @model_validator(mode="after")
    def _finite(self) -> FrameAck:
        if not math.isfinite(self.age_s):
            raise ValueError("age_s must be finite")
        return self
