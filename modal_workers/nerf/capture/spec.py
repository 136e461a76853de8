"""Declaration and report of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams

#: Sharp photos without repetitions: fewer than the first are refused, fewer than the second accepted with a warning.
FEWEST_PHOTOS = 10
ENOUGH_PHOTOS = 15
#: Maximum that is accepted.
MOST_PHOTOS = 500

Source = Literal["photos", "archive", "video"]
Acceptance = Literal["good", "usable", "refused"]


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reason(_Figures):
    """One finding of the pre-flight, and what to do about it."""

    code: str
    #: A refusal stops the pipeline, a warning does not; a note needs no action.
    severity: Literal["refusal", "warning", "note"]
    message: str
    #: File names as they were sent.
    photos: list[str] = Field(default_factory=list)
    fix: str


class Verdict(_Figures):
    """Verdict on the photos."""

    accept: Acceptance
    #: Share of the photos that are sharp, linked and not repeated, reduced where a side is missing: 0..1.
    score: float = Field(ge=0, le=1)
    reasons: list[Reason] = Field(default_factory=list)


class Orbit(_Figures):
    """Directions from which the photos were taken; a rough estimate from pairs, in degrees."""

    #: How far around the object the largest component goes: 360 minus the widest gap.
    coverage_deg: float
    #: Whether no gap is wide, or the photos on both sides of the widest gap overlap.
    closed: bool
    rings: int
    widest_gap_deg: float
    #: The two photos at the edges of the widest gap.
    gap_between: list[str]


class StageEstimate(_Figures):
    """Estimate of one stage: seconds and dollars of all its jobs."""

    stage: str
    device: str
    jobs: int
    seconds: float
    usd: float


class Estimate(_Figures):
    """Estimated cost of the later stages at the price table, from the stages' typical times."""

    stages: list[StageEstimate]
    usd: float
    prices_read_on: str


class Skipped(_Figures):
    """A file that is not used, and the reason."""

    name: str
    reason: str


class CaptureReport(Result):
    """The input of a capture and the verdict on it."""

    source: Source
    #: Whether the order of the photos is the order in which they were taken.
    ordered: bool
    sent: int
    photos: int
    masks: int
    skipped: list[Skipped]
    sharp: int
    #: Median width of the photos' edges as a Gaussian sigma, in px at 1024 px on the long side; None: no edges.
    blur_px: float | None
    #: Median number of features, at 400 px on the long side.
    features: int
    matched_pairs: int
    #: Sizes of the sets of photos without a link to each other, largest first; single photos included.
    pieces: list[int]
    orbit: Orbit | None
    verdict: Verdict
    #: Whether the pipeline continues after this stage.
    goes_on: bool
    #: Cost of the later stages: spent when the pipeline continues, saved when it does not.
    later_stages: Estimate
    spared_usd: float
    checking_s: float


WORKLOAD = Workload(
    name="nerf_capture",
    title="Check the photos",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=CaptureReport,
    inputs=(),
    stages=(Stage("capture", "Check the photos", 1.0),),
    job="modal_workers.nerf.capture.job:run",
    requires=("PIL", "av", "cv2", "numpy", "pi_heif"),
    extra="nerf",
    compute=Compute(cpu_cores=2.0, memory_bytes=4 * 1024**3, timeout_s=1800.0, typical_s=20.0),
    kind="stage",
)
