"""Result of the pipeline: verdict, figures of each stage, quality and cost. Pydantic and contracts only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload import Result


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StageFigures(_Figures):
    """Time and cost of one stage, estimated and actual; USD at the price table of contracts/prices.py."""

    stage: str
    jobs: int
    device: str
    estimated_s: float
    actual_s: float | None = Field(description="Seconds of work, summed over its jobs; None where it did not run.")
    estimated_usd: float
    actual_usd: float | None


class ObjectFigures(_Figures):
    """The object that was found, where no masks tell."""

    source: str = Field(description="cameras: what the photos look at; hint: what object_hint tells.")
    confidence: float = Field(ge=0, le=1)
    doubt: str | None = Field(description="Why something else may be meant; the report shows the choices.")
    choices: tuple[str, ...] = Field(description="Names of what may be meant; the first one was used.")


class PosesFigures(_Figures):
    """Figures of the camera poses."""

    photos_registered: int
    photos_given: int
    reprojection_error_px: float
    points: int
    elevation_min_deg: float
    elevation_max_deg: float


class ModelFigures(_Figures):
    """Figures of the trained model."""

    backend: str
    device: str
    splats: int
    iterations: int
    held_out: int = Field(description="Photos that were held out of the training.")
    psnr_db: float | None
    ssim: float | None
    outline_agreement: float | None = Field(
        default=None,
        description="Share of the outline of alpha in held-out photos that is where they stop showing the table, "
        "within 2 px of 320. Only where masks were found: PSNR is computed inside them and does not judge them.",
    )
    outline_doubtful: bool = Field(default=False, description="Whether that share is so low that masks are advised.")


class FramesFigures(_Figures):
    """Figures of the rendered frames."""

    frames: int
    verified: int = Field(description="Frames read back and complete, of the right size, with an alpha that varies.")
    size_px: int
    elevations_deg: tuple[float, ...]
    azimuths: int
    batches: int
    arcs_deg: tuple[tuple[float, float], ...] = Field(
        default=((0.0, 360.0),), description="First azimuth and length of each arc over which the rings go."
    )
    open_deg: float | None = Field(
        default=None, description="How much of the circle around the object no photo shows; None where it is unknown."
    )
    seen: int | None = Field(
        default=None,
        description="Frames that photos show: one within 30 degrees of the frame, and at least 70 % of its pixels seen "
        "in training from within 30 degrees; None where it is unknown.",
    )


class NerfResult(Result):
    """Result of the pipeline; parts that did not run are None."""

    verdict: Literal["good", "usable", "refused"]
    score: float = Field(ge=0, le=1)
    #: Codes of the findings of the pre-flight and, after them, of the frames.
    reasons: tuple[str, ...]
    photos_sent: int
    photos_used: int
    spared_usd: float = Field(description="Cost saved because the later stages did not run.")
    poses: PosesFigures | None = None
    object: ObjectFigures | None = None
    model: ModelFigures | None = None
    frames: FramesFigures | None = None
    stages: tuple[StageFigures, ...] = ()
    estimated_s: float
    actual_s: float
    estimated_usd: float
    actual_usd: float
    keep_hours: int = Field(description="Hours after the end at which intermediate files and caches are removed.")


def headline(result: NerfResult) -> str:
    """Return the result in one sentence."""
    if result.frames is not None:
        return f"{result.photos_sent} photos, {result.frames.frames:,} transparent frames"
    if result.verdict == "refused":
        return f"{result.photos_sent} photos: not yet a model"
    return f"{result.photos_sent} photos: good enough for a model"
