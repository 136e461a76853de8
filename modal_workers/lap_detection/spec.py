"""Declaration of the lap detection: parameters, result, input, stages and compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, model_validator

from contracts.workload import Compute, FollowUp, Input, Params, Pick, Result, Stage, Workload

#: Most laps in the result; ``laps.json`` and ``laps.csv`` have all.
RESULT_LAPS: Final = 100

Reason = Literal[
    "standing_camera", "too_dark", "shorter_than_a_lap", "no_repeat", "similar_scenery", "start_line_seen_once"
]


class LapDetectionParams(Params):
    """Parameters of a lap detection."""

    start_line_s: float | None = Field(
        default=None,
        ge=0,
        le=86_400,
        description="A time of the video at which the car crosses the start line; null: a place is chosen.",
    )
    min_lap_s: float = Field(default=20.0, ge=5, le=3600, description="Shortest lap, seconds without stops.")
    max_lap_s: float = Field(default=600.0, ge=10, le=3600, description="Longest lap, seconds without stops.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.max_lap_s < 1.2 * self.min_lap_s:
            raise ValueError("max_lap_s must be at least 1.2 times min_lap_s")
        return self


class VideoFactsResult(Result):
    """Facts of the video."""

    filename: str
    width_px: int
    height_px: int
    rotation_deg: int
    frame_count: int
    duration_s: float
    mean_rate_hz: float
    variable_rate: bool


class LapResult(Result):
    """One lap: from one crossing of the line to the next."""

    number: int
    start_s: float = Field(description="Start, seconds from the video's first frame.")
    end_s: float
    lap_s: float
    error_s: float = Field(description="Half-width of the 95 % band of lap_s.")
    confidence: float = Field(ge=0, le=1, description="0.5 where a crossing is uncertain by 0.1 s; of the worse one.")
    matched: float = Field(ge=0, le=1, description="Share of the lap that another lap of the video shows too.")
    similarity: float = Field(
        description="Mean cosine of its frames with those of the other lap; chance gives about 0."
    )
    rest_s: float = Field(description="Time at rest within the lap.")
    slow: bool = Field(
        description="Whether it has a rest or takes more than 1.25 times the fastest: out-lap, in-lap, pits."
    )


class CrossingResult(Result):
    """One moment at which the car crosses the line."""

    time_s: float
    error_s: float = Field(description="Half-width of the 95 % band against the reference; 0 for the reference.")
    similarity: float
    confidence: float = Field(ge=0, le=1)


class LapDetectionResult(Result):
    """The laps of a video, or why there are none."""

    video: VideoFactsResult
    laps: tuple[LapResult, ...]
    lap_count: int = Field(description="Number of laps; the list has the first 100.")
    crossings: tuple[CrossingResult, ...]
    start_line_s: float | None = Field(description="The crossing that the others are compared with; null without one.")
    start_line_chosen: Literal["given", "automatic", "none"]
    fastest: int | None = Field(description="Number of the fastest lap without a rest.")
    reason: Reason | None = Field(description="Why there is no lap; null where there is one.")
    explanation: str = Field(description="The reason in a sentence, with what would help.")
    warnings: tuple[str, ...]


def _headline(result: LapDetectionResult) -> str:
    if not result.lap_count:
        return f"No lap found: {result.explanation.rstrip('.')}"
    found = f"{result.lap_count} lap{'s' * (result.lap_count != 1)} found"
    fastest = next((lap for lap in result.laps if lap.number == result.fastest), None)
    return f"{found}, the fastest {fastest.lap_s:.2f} s ± {fastest.error_s:.2f} s" if fastest else found


def _check_durations(
    params: LapDetectionParams, durations_s: Mapping[str, float]
) -> tuple[tuple[str, ...], str] | None:
    """Return what is wrong with the time of the start line for a video of this duration."""
    duration_s = durations_s.get("video")
    if duration_s is None or params.start_line_s is None or params.start_line_s <= duration_s:
        return None
    return ("start_line_s",), f"the start line is at {params.start_line_s:g} s, the video ends at {duration_s:.1f} s"


WORKLOAD: Final = Workload(
    name="lap_detection",
    title="Lap detection",
    description="Finds the laps in one onboard video of a circuit: when the car passes the same place again.",
    version="1.0.0",
    params=LapDetectionParams,
    result=LapDetectionResult,
    inputs=(Input("video", "video", "Onboard video of one or more laps"),),
    stages=(
        Stage("read", "Read the video", 0.8),
        Stage("match", "Find repeats of the same place", 0.12),
        Stage("report", "Write tables, pictures and report", 0.08),
    ),
    job="modal_workers.lap_detection.job:run",
    requires=("PIL", "av", "cv2", "matplotlib", "numpy"),
    extra="lap-compare",
    headline=_headline,
    check_durations=_check_durations,
    report="report.html",
    follow_ups=(
        FollowUp(
            workload="lap_compare",
            title="Compare two of these laps",
            rows="laps",
            picks=(Pick("Lap A", ("segments", "reference")), Pick("Lap B", ("segments", "other"))),
            fields={"start_s": "start_s", "end_s": "end_s"},
            inputs={"reference": "video", "other": "video"},
            columns={
                "number": "Lap",
                "start_s": "Start, s",
                "end_s": "End, s",
                "lap_s": "Lap time, s",
                "error_s": "±",
                "confidence": "Confidence",
            },
            unlikely="slow",
        ),
    ),
    compute=Compute(cpu_cores=2.0, memory_bytes=2 * 1024**3, timeout_s=3600.0, typical_s=60.0),
)
