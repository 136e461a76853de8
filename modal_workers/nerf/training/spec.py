"""Declaration and report of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams

#: Below this the outline is reported as doubtful (``TrainingReport.outline_agreement``).
OUTLINE_DOUBTFUL = 0.9


class CurvePoint(BaseModel):
    """Score of the model on held-out photos at one iteration."""

    model_config = ConfigDict(frozen=True)

    iteration: int
    splats: int
    psnr_db: float
    ssim: float


class TrainingReport(Result):
    """Settings and quality of the training."""

    backend: str
    device: str
    preset: str
    photos: int = Field(description="Photos trained on, without the held-out ones.")
    held_out: int = Field(description="Every eighth photo: used for scores only.")
    training_size_px: int = Field(description="Long side of the photos in training, px.")
    iterations: int = Field(description="Iterations done, after early stopping and the smaller presets of a CPU.")
    iterations_asked: int
    stopped_early: bool
    splats: int
    psnr_db: float | None = Field(
        description="On held-out photos, over the pixels that the object or the splats cover."
    )
    ssim: float | None = Field(description="On held-out photos, over the crop of the object.")
    scene_psnr_db: float | None = Field(default=None, description="On whole held-out photos, with the background.")
    masks: str = Field(description="Source of the object masks: given or found.")
    outline_agreement: float | None = Field(
        default=None,
        description="Share of the outline of alpha in held-out photos that is within 2 px (of 320) of where the photo "
        "stops showing the table; only where masks were found and the table is known beside the outline.",
    )
    table_found: bool = Field(default=False, description="Whether the object stands on a plane that was removed.")
    gains: bool = Field(default=False, description="Whether exposure differences between the photos were learned.")
    object_radius: float = Field(
        description="Radius of the sphere around the object; the median distance of the cameras is 1."
    )
    seconds: float = Field(description="Training time, including earlier runs of the job.")
    resumed: int = Field(default=0, description="Number of resumptions from a checkpoint.")
    curve: tuple[CurvePoint, ...] = ()

    @property
    def outline_doubtful(self) -> bool:
        """Whether the outline agreement is so low that masks are advised; False where it was not measured."""
        return self.outline_agreement is not None and self.outline_agreement < OUTLINE_DOUBTFUL


WORKLOAD = Workload(
    name="nerf_training",
    title="Train the model",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=TrainingReport,
    inputs=(),
    stages=(Stage("training", "Train the model", 1.0),),
    job="modal_workers.nerf.training.job:run",
    requires=("cv2", "numpy", "torch"),
    extra="nerf",
    compute=Compute(
        # Production starts at A10: contracts/gpu_ladder.py removes what is below an environment's minimum.
        gpus=("T4", "A10", "A100-40GB"),
        cpu_cores=4.0,
        memory_bytes=12 * 1024**3,
        timeout_s=6 * 3600.0,
        typical_s=900.0,
    ),
    kind="stage",
)
