"""Declaration of the badminton analysis: parameters, result, inputs, stages and compute."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from contracts.workload import Backend, Compute, Input, Params, Result, Stage, Workload
from modal_workers.badminton.headline import headline

#: Names of the court's keypoints as the replaced system has them; "near" is the half at the top of the picture there.
CORNER_NAMES: Final = ("top_left", "top_right", "bottom_right", "bottom_left")
KEYPOINT_NAMES: Final = (
    *CORNER_NAMES,
    "net_left",
    "net_right",
    "service_line_near_left",
    "service_line_near_right",
    "service_line_far_left",
    "service_line_far_right",
    "center_near",
    "center_far",
)

#: Sizes of the YOLO26 pose models.
YOLO_SIZES: Final = ("n", "s", "m", "l", "x")

Pixel = Annotated[float, Field(ge=-10_000, le=20_000, allow_inf_nan=False)]


def _named(keypoints: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    if unknown := sorted(keypoints.keys() - set(KEYPOINT_NAMES)):
        raise ValueError(f"unknown keypoint {unknown[0]!r}; there are: {', '.join(KEYPOINT_NAMES)}")
    if missing := [name for name in CORNER_NAMES if name not in keypoints]:
        raise ValueError(f"the corner {missing[0]} is missing; all four corners are required")
    return keypoints


CourtKeypoints = Annotated[
    dict[str, tuple[Pixel, Pixel]],
    Field(
        max_length=len(KEYPOINT_NAMES),
        # What ``_named`` checks, for those who read the schema.
        json_schema_extra={"propertyNames": {"enum": list(KEYPOINT_NAMES)}, "required": list(CORNER_NAMES)},
    ),
    AfterValidator(_named),
]


class BadmintonParams(Params):
    """Parameters of a badminton analysis."""

    mode: Literal["full", "rally_only"] = Field(
        default="full", description="full: players, shuttle, rallies and figures. rally_only: only the rallies."
    )
    pose: Literal["auto", "motion", "onnx", "ultralytics"] = Field(
        default="auto",
        description="How players are found: ultralytics (skeletons), onnx (skeletons, a model of yours), motion (no "
        "skeletons, needs a still camera). auto takes the first of these that the worker has.",
    )
    yolo: Literal["n", "s", "m", "l", "x"] = Field(default="n", description="Size of the YOLO26 pose model.")
    shuttle: Literal["classical", "onnx"] = Field(
        default="classical", description="How the shuttle is found: by its motion, or by a TrackNet model of yours."
    )
    players: Literal["auto", "singles", "doubles"] = Field(default="auto", description="Number of players.")
    court_keypoints: CourtKeypoints | None = Field(
        default=None,
        description="Points of the court in the picture, {name: [x, y]} in pixels of the upright video: the four "
        "corners top_left, top_right, bottom_right, bottom_left, and up to eight more. By default it is found.",
    )
    rally_clips: bool = Field(default=False, description="Also write one clip for each rally.")
    play_video: bool = Field(default=False, description="Also write a video of the rallies only.")
    video_height_px: int = Field(default=720, ge=180, le=1080, description="Height of the processed video.")
    video_id: str = Field(
        default="", max_length=128, description="Your own id of the video; copied into the files in compat/."
    )


class VideoResult(Result):
    """Facts of the video."""

    filename: str
    width_px: int
    height_px: int
    rotation_deg: int
    frame_count: int
    analysed_frame_count: int
    duration_s: float
    mean_rate_hz: float
    variable_rate: bool


class CourtResult(Result):
    """The court in the picture; of the camera that shows it longest."""

    source: Literal["lines", "keypoints"]
    corners_px: tuple[tuple[float, float], ...] = Field(description="Far left, far right, near right, near left.")
    residual_px: float | None = Field(description="Median distance of the model's lines to those in the picture.")
    residual_m: float | None
    confidence: float = Field(ge=0, le=1)
    time_share: float = Field(ge=0, le=1, description="Share of the video in which the court is known.")


class PlayerResult(Result):
    """Figures of one player; null where the evidence does not suffice."""

    player: int = Field(description="Number of the player: 0 and 1 begin on the far half in doubles, 0 in singles.")
    observed_share: float = Field(ge=0, le=1, description="Share of the analysed frames in which the player was seen.")
    identity_confidence: float | None = Field(description="Lowest probability that the track is one person.")
    distance_m: float | None
    distance_error_m: float | None
    mean_speed_m_s: float | None
    top_speed_m_s: float | None
    top_speed_error_m_s: float | None
    outlier_count: int = Field(description="Detections rejected because nobody moves like that.")


class MissingPart(Result):
    """A part of the result that does not exist, and why."""

    part: str
    reason: str


class BadmintonResult(Result):
    """Headline figures. Everything else is in ``results.json``."""

    video: VideoResult
    mode: Literal["full", "rally_only"]
    pose_backend: str = Field(description="What found the players; empty where nothing looked for them.")
    shuttle_backend: str
    skeletons: bool
    court: CourtResult | None
    players: tuple[PlayerResult, ...]
    rally_count: int | None = Field(description="null where rallies could not be found.")
    play_s: float | None = Field(description="Time in rallies.")
    longest_rally_s: float | None
    hit_count: int | None
    left_out_s: float = Field(description="Time that other cameras, replays or moving cameras take.")
    warnings: tuple[str, ...]
    missing: tuple[MissingPart, ...]


def _headline(result: BadmintonResult) -> str:
    distances = [player.distance_m for player in result.players]
    return headline(result.rally_count, result.play_s, distances, [part.part for part in result.missing])


WORKLOAD: Final = Workload(
    name="badminton",
    title="Badminton",
    description="Analyses one match video: court, players, shuttle, rallies, speeds and zones, and a processed video.",
    version="1.0.0",
    params=BadmintonParams,
    result=BadmintonResult,
    inputs=(Input("video", "video", "Video of a badminton match or rally"),),
    stages=(
        Stage("court", "Find the court and the camera's cuts", 0.12),
        Stage("detect", "Find players and shuttle in every frame", 0.5),
        Stage("track", "Follow the players and the shuttle", 0.05),
        Stage("analyse", "Find hits, rallies and figures", 0.03),
        Stage("render", "Render the videos", 0.25),
        Stage("report", "Write tables and report", 0.05),
    ),
    job="modal_workers.badminton.job:run",
    requires=("PIL", "av", "cv2", "matplotlib", "numpy"),
    extra="badminton",
    headline=_headline,
    report="report.html",
    compute=Compute(
        # Production starts at A10: contracts/gpu_ladder.py removes what is below an environment's minimum.
        gpus=("T4", "A10", "A100-40GB"),
        cpu_cores=4.0,
        memory_bytes=8 * 1024**3,
        timeout_s=1800.0,
        typical_s=240.0,
    ),
    backends=(
        Backend(
            "pose",
            "ultralytics",
            "ultralytics",
            "Use pose=auto, or install the extra badminton-yolo on the worker (AGPL-3.0: see NOTICE).",
        ),
    ),
)
