"""Declaration of the live splat session: parameters, result and compute."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field

from contracts.limits import CHUNK_FRAMES, SESSION_LENGTH_S
from contracts.session import SessionResult
from contracts.workload import Compute, Params, Stage, Workload

#: Limits from the description of the SO-101; a test compares them.
JOINT_LIMITS_RAD: Final[dict[str, tuple[float, float]]] = {
    "shoulder_pan": (-1.91986, 1.91986),
    "shoulder_lift": (-1.74533, 1.74533),
    "elbow_flex": (-1.69, 1.69),
    "wrist_flex": (-1.65806, 1.65806),
    "wrist_roll": (-2.74385, 2.84121),
    "gripper": (-0.174533, 1.74533),
}
#: Name of the file beside the chunks that says which there are, for clients of the replaced splat server.
STATUS_NAME: Final = "status.json"
_PROGRESS_FRAMES: Final = 10_000
#: A wrist camera 55 mm above and 75 mm behind the tip of the jaws, looking 40 degrees down on it.
_WRIST: Final = (
    *(0.0, math.cos(math.radians(40.0)), math.sin(math.radians(40.0)), -0.055),
    *(-1.0, 0.0, 0.0, 0.0),
    *(0.0, -math.sin(math.radians(40.0)), math.cos(math.radians(40.0)), -0.075),
    *(0.0, 0.0, 0.0, 1.0),
)


def _rigid(pose: tuple[float, ...]) -> tuple[float, ...]:
    """Raise if a matrix is not a rigid transform: people paste matrices in the wrong order."""
    rows = [pose[4 * row : 4 * row + 3] for row in range(3)]
    for first in range(3):
        for second in range(first, 3):
            product = sum(a * b for a, b in zip(rows[first], rows[second], strict=True))
            if not abs(product - (first == second)) < 1e-3:
                raise ValueError(
                    "the upper left 3 x 3 is not a rotation: its rows must have length 1 and be orthogonal"
                )
    x, y, z = rows
    cross = (x[1] * y[2] - x[2] * y[1], x[2] * y[0] - x[0] * y[2], x[0] * y[1] - x[1] * y[0])
    if sum(a * b for a, b in zip(cross, z, strict=True)) < 0:
        raise ValueError("the upper left 3 x 3 is a reflection")
    if pose[12:] != (0.0, 0.0, 0.0, 1.0):
        raise ValueError("the last row must be 0 0 0 1: give the 16 numbers row by row, in metres")
    return pose


Pose = Annotated[
    tuple[Annotated[float, Field(allow_inf_nan=False, ge=-10, le=10)], ...],
    Field(min_length=16, max_length=16),
    AfterValidator(_rigid),
]


def _terms(distortion: tuple[float, ...]) -> tuple[float, ...]:
    """Raise for distortions that OpenCV would reject with every frame."""
    if len(distortion) not in (0, 4, 5, 8):
        raise ValueError("give 0, 4 (k1 k2 p1 p2), 5 (and k3) or 8 values (and k4 k5 k6); set unknown ones to 0")
    return distortion


class Intrinsics(Params):
    """The camera's pinhole model in pixels of its frames; the centre of the first pixel is at (0.5, 0.5)."""

    width_px: int = Field(ge=32, le=4096)
    height_px: int = Field(ge=32, le=4096)
    fx_px: float = Field(gt=0)
    fy_px: float = Field(gt=0)
    cx_px: float
    cy_px: float
    distortion: Annotated[tuple[float, ...], AfterValidator(_terms)] = Field(
        default=(),
        description="OpenCV's k1 k2 p1 p2 k3 …; pictures are undistorted by it.",
        json_schema_extra={"anyOf": [{"maxItems": 0}, {"minItems": 4, "maxItems": 5}, {"minItems": 8, "maxItems": 8}]},
    )


class Robot(Params):
    """Information of the robot client about its robot; stored with the session, not used in the computation."""

    id: str = Field(default="", max_length=200)
    type: str = Field(default="", max_length=200)
    names: tuple[str, ...] = ()
    calibration: dict[str, Any] = Field(default_factory=dict)
    norm_modes: dict[str, str] = Field(default_factory=dict)


class LiveSplatParams(Params):
    """Parameters of a live splat."""

    robot: Robot | None = Field(
        default=None, description="Name, calibration and units of the robot, stored with the session."
    )
    kinematics: Literal["so101"] = Field(default="so101", description="The arm that sends joint angles.")
    gripper_from_camera: Pose = Field(
        default=_WRIST, description="Where the camera is on the gripper (hand-eye): rigid, 4 x 4, row by row, metres."
    )
    intrinsics: Intrinsics | None = Field(
        default=None, description="The camera; without it a pinhole of field_of_view_deg across the picture."
    )
    field_of_view_deg: float = Field(default=70.0, gt=10, lt=150, description="Across the picture.")
    training_width_px: int = Field(
        default=160, ge=64, le=1280, description="Width at which frames are used for training."
    )
    max_splats: int = Field(default=8000, ge=500, le=2_000_000, description="Hard cap on Gaussians.")
    chunk_frames: int = Field(default=CHUNK_FRAMES, ge=5, le=10_000, description="Accepted frames between two chunks.")
    held_out_every: int = Field(
        default=8, ge=2, le=1000, description="Every n-th frame is held out: its PSNR is the score."
    )
    frame_budget_s: float = Field(default=0.5, gt=0, le=30, description="Training time for each frame.")
    refine: bool = Field(
        default=True, description="Correct joint offsets and camera poses from the frames; the joints are a prior."
    )
    missing_joints: Literal["reject", "zeros"] = Field(
        default="reject",
        description="Frames without joint angles: reject them, or take all joints to be at zero, as for a webcam.",
    )
    ground_z_m: float = Field(default=0.0, ge=-2, le=2, description="Height of the table, where depth is unknown.")
    seed: int = Field(default=0, ge=0, lt=1 << 31, description="Seed of all random choices.")


class LiveSplatResult(SessionResult):
    """Headline figures; the model is ``model.ply``, its growth the chunks."""

    splats: int
    psnr_db: float | None = Field(description="Mean over held-out frames; null without any.")
    steps: int
    joint_offsets_rad: dict[str, float] = Field(description="Estimated offsets of the joints' zeros.")


def chunk_name(number: int) -> str:
    """Return the name of a chunk in the session's folder of the bucket; the first one has number 1."""
    return f"chunk_{number:04d}.ply"


def training_progress(frames: int, *, complete: bool) -> float:
    """Return the progress of a training, 0 to 1, as the replaced splat server counts it: all is 10,000 frames."""
    return 1.0 if complete else min(frames / _PROGRESS_FRAMES, 1.0)


def headline(result: LiveSplatResult) -> str:
    """Return the size and the quality of the model in one sentence."""
    quality = "no held-out frames" if result.psnr_db is None else f"{result.psnr_db:.1f} dB on held-out frames"
    return f"{result.splats:,} Gaussians after {result.steps:,} steps, {quality}"


WORKLOAD: Final = Workload(
    name="live_splat",
    title="Live splat",
    description="A robot arm's camera becomes a Gaussian splat while it moves: frames and joint angles in, PLY out.",
    version="1.0.0",
    params=LiveSplatParams,
    result=LiveSplatResult,
    inputs=(),
    stages=(Stage("live", "Live", 1.0),),
    job="modal_workers.live_splat.session:run",
    requires=("cv2", "numpy", "torch"),
    extra="splat",
    kind="session",
    headline=headline,
    compute=Compute(
        # Production starts at A10: contracts/gpu_ladder.py removes what is below an environment's minimum.
        gpus=("T4", "A10", "A100"),
        cpu_cores=2.0,
        memory_bytes=4 * 1024**3,
        timeout_s=SESSION_LENGTH_S + 600.0,
        typical_s=300.0,
    ),
    max_attempts=10,
    deadline_s=2 * SESSION_LENGTH_S,
    joint_limits_rad=JOINT_LIMITS_RAD,
)
