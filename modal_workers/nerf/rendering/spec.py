"""Declaration and report of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from pydantic import Field

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class RenderingReport(Result):
    """Frames of one shard, rendered and checked."""

    batch: int
    artifact: str = Field(description="ZIP of the batch; poses and checksums of its frames are in the JSON beside it.")
    first_frame: int
    frames: int = Field(description="Frames in the ZIP, each read back and checked.")
    frames_rendered: int = Field(description="Frames rendered by the run that finished the batch.")
    frames_taken_over: int = Field(description="Frames stored by earlier runs and reused.")
    size_px: int
    azimuth_step_deg: float
    elevations_deg: tuple[float, ...]
    arcs_deg: tuple[tuple[float, float], ...] = Field(
        default=((0.0, 360.0),), description="First azimuth and length of each arc over which the rings go."
    )
    seen: int | None = Field(default=None, description="Frames that photos show from nearby; null where it is unknown.")
    spacing_error_deg: float = Field(description="Largest deviation of a pose from even spacing on the orbit.")
    mean_coverage: float = Field(description="Mean alpha of the frames, 0..1.")
    zip_bytes: int
    zip_sha256: str
    device: str
    seconds: float = Field(description="Time of this run: rendering, encoding and checks.")
    frames_per_second: float | None = Field(
        description="Of this run, including encoding; null where no frame was left to render."
    )


WORKLOAD = Workload(
    name="nerf_rendering",
    title="Render the frames",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=RenderingReport,
    inputs=(),
    stages=(Stage("rendering", "Render the frames", 1.0),),
    job="modal_workers.nerf.rendering.job:run",
    requires=("cv2", "numpy", "torch"),
    extra="nerf",
    compute=Compute(
        # Production starts at A10: contracts/gpu_ladder.py removes what is below an environment's minimum.
        gpus=("T4", "A10", "A100-40GB"),
        cpu_cores=2.0,
        memory_bytes=8 * 1024**3,
        timeout_s=3600.0,
        typical_s=60.0,
    ),
    kind="stage",
)
