"""Result of the pipeline: verdict, figures of each stage, quality and cost. Pydantic and contracts only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload import Result


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageFigures(_Figures):
    """What one stage took against what it was thought to take; USD at the price table of contracts/prices.py."""

    stage: str
    jobs: int
    device: str
    estimated_s: float
    actual_s: float | None = Field(description="Seconds of work, summed over its jobs; None where it was not run.")
    estimated_usd: float
    actual_usd: float | None


class PosesFigures(_Figures):
    """Where the photos were taken from."""

    photos_registered: int
    photos_given: int
    reprojection_error_px: float
    points: int
    elevation_min_deg: float
    elevation_max_deg: float


class ModelFigures(_Figures):
    """What was trained."""

    backend: str
    device: str
    splats: int
    iterations: int
    held_out: int = Field(description="Photos that it was not trained on.")
    psnr_db: float | None
    ssim: float | None
    outline_agreement: float | None = Field(
        default=None,
        description="Share of alpha's outline in held-out photos that is where they stop showing the table, within "
        "2 px of 320. Only where masks were found: PSNR is taken inside of them and does not judge them.",
    )
    outline_doubtful: bool = Field(default=False, description="Whether that share is so small that masks are advised.")


class FramesFigures(_Figures):
    """The orbit."""

    frames: int
    verified: int = Field(description="Read back and found to be whole, of the right size, with an alpha that varies.")
    size_px: int
    elevations_deg: tuple[float, ...]
    azimuths: int
    batches: int


class NerfResult(Result):
    """The whole: verdict, figures, quality, cost; what was not run is None."""

    verdict: Literal["good", "usable", "refused"]
    score: float = Field(ge=0, le=1)
    #: What the pre-flight found against the photos, by code.
    reasons: tuple[str, ...]
    photos_sent: int
    photos_used: int
    spared_usd: float = Field(description="What was not spent because the later stages were not run.")
    poses: PosesFigures | None = None
    model: ModelFigures | None = None
    frames: FramesFigures | None = None
    stages: tuple[StageFigures, ...] = ()
    estimated_s: float
    actual_s: float
    estimated_usd: float
    actual_usd: float
    keep_hours: int = Field(description="Hours after the end at which hand-over files and caches are removed.")
