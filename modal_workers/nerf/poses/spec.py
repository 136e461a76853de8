"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class PosesAttempt(BaseModel):
    """One try of the ladder, and why the next one was needed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    matcher: str
    #: Long side of the photos in which features were looked for, and how many were taken of each at most.
    long_side_px: int
    features: int
    pairs: int
    photos_registered: int
    #: Empty for the one that was taken.
    problem: str
    duration_s: float


class PosesReport(Result):
    """How many photos were placed, and how well.

    Lengths are in the scene's own unit: the median distance of a camera from what all of them look at is 1. The
    origin is that point, z is up, and the first registered photo's camera is over the positive x axis.
    """

    photos_given: int
    photos_registered: int
    #: Names as they were uploaded.
    not_registered: list[str]
    #: Those that show nothing new beside others, and were not used.
    repeated: list[str]
    warnings: list[str]
    reprojection_error_px: float
    points: int
    mean_track_length: float
    #: Parts of the covisibility graph of the chosen model (edge: at least 15 shared points) before others than the
    #: largest were left out.
    components: int
    #: Models that mapping gave, of which the largest was taken.
    models: int
    matcher: str
    attempts: list[PosesAttempt]
    #: Of the undistorted photos; the median where they differ.
    focal_px: float
    camera_distance_median: float
    #: Lowest and highest camera as seen from the origin.
    elevation_min_deg: float
    elevation_max_deg: float
    durations_s: dict[str, float]


WORKLOAD = Workload(
    name="nerf_poses",
    title="Find where the photos were taken from",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=PosesReport,
    inputs=(),
    stages=(Stage("poses", "Find where the photos were taken from", 1.0),),
    job="modal_workers.nerf.poses.job:run",
    compute=Compute(cpu_cores=4.0, memory_bytes=8 * 1024**3, timeout_s=2 * 3600.0, typical_s=180.0),
    kind="stage",
)
