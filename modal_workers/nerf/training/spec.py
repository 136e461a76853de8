"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams

#: Below this the outline is said to be doubtful (``TrainingReport.outline_agreement``).
OUTLINE_DOUBTFUL = 0.9


class CurvePoint(BaseModel):
    """How good the model was at one moment of training, on photos that it does not see."""

    model_config = ConfigDict(frozen=True)

    iteration: int
    splats: int
    psnr_db: float
    ssim: float


class TrainingReport(Result):
    """What was trained, and how well it shows photos it never saw."""

    backend: str
    device: str
    preset: str
    photos: int = Field(description="Trained on; those held out are not among them.")
    held_out: int = Field(description="Every eighth photo: only looked at.")
    training_size_px: int = Field(description="Long side of the photos in training: the size really used.")
    iterations: int = Field(description="Really done: early stops and smaller presets of a CPU are seen here.")
    iterations_asked: int
    stopped_early: bool
    splats: int
    psnr_db: float | None = Field(description="Of the held-out photos, over the object's pixels and where it spills.")
    ssim: float | None = Field(description="Of the held-out photos, over the object's window.")
    scene_psnr_db: float | None = Field(default=None, description="Of whole held-out photos, with the background.")
    masks: str = Field(description="What told the object from the rest: given, or found.")
    outline_agreement: float | None = Field(
        default=None,
        description="Share of alpha's outline in held-out photos that is within 2 px (of 320) of where the photo stops "
        "showing the table; only where masks were found and the table is known beside the outline.",
    )
    table_found: bool = Field(default=False, description="Whether the object stands on a plane that was taken away.")
    gains: bool = Field(default=False, description="Whether differences of exposure between the photos were learnt.")
    object_radius: float = Field(description="Of the sphere around the object; the cameras' median distance is 1.")
    seconds: float = Field(description="Of training, earlier runs of the same job included.")
    resumed: int = Field(default=0, description="How often it went on from a checkpoint.")
    curve: tuple[CurvePoint, ...] = ()

    @property
    def outline_doubtful(self) -> bool:
        """Whether so little of the outline is backed that masks are advised; not where nothing was judged."""
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
    compute=Compute(
        gpus=("T4", "A10", "A100-40GB"), cpu_cores=4.0, memory_bytes=12 * 1024**3, timeout_s=6 * 3600.0, typical_s=900.0
    ),
    kind="stage",
)
