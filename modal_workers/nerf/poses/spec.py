"""Declaration and report of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.found_object import FoundObject
from modal_workers.nerf.params import NerfParams


class PosesAttempt(BaseModel):
    """One attempt of the matching schedule, and why the next one was needed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    matcher: str
    #: Long side of the photos in feature detection, and maximum number of features per photo.
    long_side_px: int
    features: int
    pairs: int
    photos_registered: int
    #: Empty for the attempt that was accepted.
    problem: str
    duration_s: float


class PosesReport(Result):
    """Registered photos and the quality of the reconstruction.

    Lengths are in the unit of the scene: the median distance of the cameras from the point they look at is 1. That
    point is the origin, z is up, and the camera of the first registered photo is over the positive x axis.
    """

    photos_given: int
    photos_registered: int
    #: Names as they were uploaded.
    not_registered: list[str]
    #: Photos that show nothing new; they were not used.
    repeated: list[str]
    warnings: list[str]
    reprojection_error_px: float
    points: int
    mean_track_length: float
    #: Connected components of the covisibility graph of the chosen model (edge: at least 15 shared points), before all
    #: but the largest were left out.
    components: int
    #: Models that mapping returned; the largest was taken.
    models: int
    matcher: str
    attempts: list[PosesAttempt]
    #: Of the undistorted photos; the median where they differ.
    focal_px: float
    camera_distance_median: float
    #: Lowest and highest camera as seen from the origin.
    elevation_min_deg: float
    elevation_max_deg: float
    #: Widest gap between the azimuths of neighbouring photos.
    widest_gap_deg: float | None = None
    durations_s: dict[str, float]
    #: The object, where no masks tell what it is; None in files of an earlier version.
    object: FoundObject | None = None


WORKLOAD = Workload(
    name="nerf_poses",
    title="Find the camera poses",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=PosesReport,
    inputs=(),
    stages=(Stage("poses", "Find the camera poses", 1.0),),
    job="modal_workers.nerf.poses.job:run",
    requires=("cv2", "numpy", "pycolmap"),
    extra="nerf",
    compute=Compute(cpu_cores=4.0, memory_bytes=8 * 1024**3, timeout_s=2 * 3600.0, typical_s=180.0),
    kind="stage",
)
