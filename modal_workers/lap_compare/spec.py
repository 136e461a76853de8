"""Declaration of the lap comparison: parameters, result, inputs, stages and compute."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from contracts.workload import Backend, Compute, Input, Params, Result, Stage, Workload
from modal_workers.lap_compare.headline import headline

#: Data package with a YOLO model as ONNX. Not shipped: its licence does not allow it.
YOLO_PACKAGE: Final = "saccade_yolo"
#: Shortest lap that is compared, as of a whole video (modal_workers/footage/video_reader.py).
SEGMENT_S: Final = 2.0
#: What an end may be after that of the video: containers declare durations in their own units.
DURATION_SLACK_S: Final = 0.5


def _increasing(times_s: tuple[float, ...]) -> tuple[float, ...]:
    if any(after <= before for before, after in pairwise(times_s)):
        raise ValueError("sector boundaries must rise")
    return times_s


class LapSegment(Params):
    """A part of a video, cut exactly by time."""

    start_s: float = Field(default=0.0, ge=0, le=86_400, description="Start, seconds from the video's first frame.")
    end_s: float | None = Field(
        default=None, ge=0, le=86_400, description="End, 2 s after the start or later; null or 0: the end of the video."
    )

    @property
    def stop_s(self) -> float | None:
        """The end; None: that of the video."""
        return self.end_s or None

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.stop_s is not None and self.stop_s - self.start_s < SEGMENT_S:
            raise ValueError(
                f"the segment from {self.start_s:g} s to {self.stop_s:g} s is shorter than {SEGMENT_S:g} s"
            )
        return self


class LapPairSegments(Params):
    """The lap in each video; a part that is left out is the whole video."""

    reference: LapSegment = Field(default=LapSegment(), description="Lap A, in the input reference.")
    other: LapSegment = Field(
        default=LapSegment(), description="Lap B, in the input other, which may be the same video."
    )


SectorTimes = Annotated[
    tuple[Annotated[float, Field(gt=0, le=86_400)], ...],
    Field(min_length=1, max_length=11, description="Inner sector boundaries, rising, seconds on the reference clip."),
    AfterValidator(_increasing),
]


class LapCompareParams(Params):
    """Parameters of a lap comparison."""

    sectors: Annotated[int, Field(ge=1, le=12)] | SectorTimes = Field(
        default=3, description="Number of sectors (1 to 12), or a list of inner boundaries on the reference clip in s."
    )
    mount_correction: Literal["auto", "off"] = Field(
        default="auto", description="Correct the other camera's mount where that makes the pictures fit better."
    )
    flow: Literal["dis", "raft", "off"] = Field(
        default="dis", description="Optical flow as an uncalibrated motion proxy: dis (CPU), raft (GPU), or off."
    )
    detect: Literal["off", "yolo"] = Field(default="off", description="Find vehicles ahead, to warn of traffic.")
    segments: LapPairSegments | None = Field(
        default=None, description="Laps within the videos, which may be one and the same: give it for both inputs."
    )
    overlay_height_px: int = Field(default=540, ge=180, le=1080, description="Height of each picture of the overlay.")
    opportunities: int = Field(default=3, ge=0, le=3, description="Most opportunities to report.")


class ClipFacts(Result):
    """Facts of one clip."""

    filename: str
    width_px: int
    height_px: int
    rotation_deg: int
    frame_count: int
    duration_s: float
    mean_rate_hz: float
    variable_rate: bool


class SectorResult(Result):
    """One sector, timed in both clips; ``delta_s`` above zero means that the other clip is slower."""

    name: str
    start_reference_s: float
    end_reference_s: float
    reference_s: float
    other_s: float
    delta_s: float
    error_s: float
    confidence: float


class OpportunityResult(Result):
    """A stretch in which one driver loses time."""

    rank: int
    loser: Literal["reference", "other"]
    lost_s: float
    error_s: float
    start_reference_s: float
    end_reference_s: float
    start_other_s: float
    end_other_s: float
    confidence: float


class AdviceResult(Result):
    """Advice on filming, for a more certain alignment next time, from measured properties of the clips."""

    code: Literal[
        "low_resolution",
        "low_frame_rate",
        "dark",
        "overexposed",
        "little_texture",
        "blurred",
        "mount_differs",
        "cause_not_found",
    ]
    clip: Literal["reference", "other", "both"]
    text: str


class LapCompareResult(Result):
    """Headline figures. The curve is in ``delta.csv`` and ``metrics.json``."""

    reference: ClipFacts
    other: ClipFacts
    start_reference_s: float = Field(description="Start of the stretch that both clips show, on the reference clip.")
    end_reference_s: float
    total_reference_s: float
    total_other_s: float
    delta_s: float = Field(description="Time of the other clip less that of the reference; above zero it is slower.")
    delta_error_s: float = Field(description="Half-width of the 95 % band of delta_s.")
    sectors: tuple[SectorResult, ...]
    opportunities: tuple[OpportunityResult, ...]
    confidence: float = Field(ge=0, le=1, description="Mean confidence of the alignment; 0.5 is an error of 0.1 s.")
    overlap: float = Field(ge=0, le=1, description="Share of the shorter clip that the other one shows too.")
    median_error_s: float
    mount_corrected: bool
    warnings: tuple[str, ...]
    advice: tuple[AdviceResult, ...] = Field(
        default=(), description="What to film differently, where more than a fifth of the lap has low confidence."
    )


def _check_durations(params: LapCompareParams, durations_s: Mapping[str, float]) -> tuple[tuple[str, ...], str] | None:
    """Return the first segment that is outside of its video, or too short in it, and what is wrong."""
    for name, segment in segments_of(params).items():
        duration_s = durations_s.get(name)
        if duration_s is not None and (fault := outside_fault(segment, duration_s)):
            return ("segments", name), fault
    return None


def segments_of(params: LapCompareParams) -> dict[str, LapSegment]:
    """Return the segments by the names of the inputs; empty without any."""
    segments = params.segments
    return {"reference": segments.reference, "other": segments.other} if segments else {}


def outside_fault(segment: LapSegment, duration_s: float) -> str | None:
    """Return what is wrong with a segment of a video of this duration; containers round theirs."""
    if segment.stop_s is not None and segment.stop_s > duration_s + DURATION_SLACK_S:
        return f"the segment ends at {segment.stop_s:g} s, the video at {duration_s:.1f} s"
    if segment.start_s > duration_s - SEGMENT_S + DURATION_SLACK_S:
        return f"less than {SEGMENT_S:g} s of the video, which has {duration_s:.1f} s, follow {segment.start_s:g} s"
    return None


def _headline(result: LapCompareResult) -> str:
    """Return the headline, and which clip is which: a reader does not always know the order of the inputs."""
    sentence = headline(result.delta_s, result.delta_error_s, result.total_reference_s)
    return f"{sentence} (A: {result.reference.filename}, B: {result.other.filename})"


WORKLOAD: Final = Workload(
    name="lap_compare",
    title="Lap comparison",
    description="Compares two videos of the same road, driven twice: where time is won and lost. Needs no GPS.",
    version="1.0.0",
    params=LapCompareParams,
    result=LapCompareResult,
    inputs=(
        Input("reference", "video", "Lap A, to compare against"),
        Input("other", "video", "Lap B, which is compared"),
    ),
    stages=(
        Stage("read", "Read both clips", 0.35),
        Stage("align", "Align them by place", 0.25),
        Stage("compare", "Compare", 0.02),
        Stage("render", "Render overlay and clips", 0.36),
        Stage("report", "Write tables and report", 0.02),
    ),
    job="modal_workers.lap_compare.job:run",
    requires=("PIL", "av", "cv2", "matplotlib", "numpy"),
    extra="lap-compare",
    headline=_headline,
    check_durations=_check_durations,
    report="report.html",
    compute=Compute(cpu_cores=2.0, memory_bytes=3 * 1024**3, timeout_s=3600.0, typical_s=75.0),
    backends=(
        Backend("flow", "raft", "torchvision", "Use flow=dis, or install torchvision on the worker."),
        Backend("detect", "yolo", YOLO_PACKAGE, "Use detect=off, or install a YOLO model as the worker's README says."),
    ),
)
