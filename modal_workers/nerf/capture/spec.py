"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams

#: Fewest photos, blurred and repeated ones not counted, of which a model is tried; most that are taken.
FEWEST_PHOTOS = 15
MOST_PHOTOS = 500

Source = Literal["photos", "archive", "video"]
Acceptance = Literal["good", "usable", "refused"]


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reason(_Figures):
    """One thing that the pre-flight found, and what to do about it."""

    code: str
    #: A refusal stops the pipeline, a warning does not; a note asks for nothing.
    severity: Literal["refusal", "warning", "note"]
    message: str
    #: File names as they were sent.
    photos: list[str] = Field(default_factory=list)
    fix: str


class Verdict(_Figures):
    """Whether the photos will do."""

    accept: Acceptance
    #: Share of the photos that are sharp, tied to the others and no repetition, less for a side that nobody took: 0..1.
    score: float = Field(ge=0, le=1)
    reasons: list[Reason] = Field(default_factory=list)


class Orbit(_Figures):
    """From which sides the photos seem to have been taken; a rough estimate from pairs, in degrees."""

    #: How far around the object the largest piece of the capture goes: 360 less the widest gap.
    coverage_deg: float
    #: Whether no gap is wide and photos on both sides of the widest one show the same.
    closed: bool
    rings: int
    widest_gap_deg: float
    #: The two photos at the edges of the widest gap.
    gap_between: list[str]


class StageEstimate(_Figures):
    """What one stage would take: seconds and dollars of all its jobs."""

    stage: str
    device: str
    jobs: int
    seconds: float
    usd: float


class Estimate(_Figures):
    """What the later stages would cost at the price table, from the stages' own typical times."""

    stages: list[StageEstimate]
    usd: float
    prices_read_on: str


class Skipped(_Figures):
    """A file that is not used, and why."""

    name: str
    reason: str


class CaptureReport(Result):
    """What was sent, and whether it will do."""

    source: Source
    #: Whether the order of the photos tells which were taken after each other.
    ordered: bool
    sent: int
    photos: int
    masks: int
    skipped: list[Skipped]
    sharp: int
    #: Median width of the photos' edges as a Gaussian's sigma, in px at 1024 px on the long side; None: no edges.
    blur_px: float | None
    #: Median number of points that can be found again, at 400 px on the long side.
    features: int
    matched_pairs: int
    #: Sizes of the pieces that no match ties to each other, largest first; single photos included.
    pieces: list[int]
    orbit: Orbit | None
    verdict: Verdict
    #: Whether the pipeline goes on after this stage.
    goes_on: bool
    #: Stages after this one: spent when it goes on, spared when it does not.
    later_stages: Estimate
    spared_usd: float
    checking_s: float


WORKLOAD = Workload(
    name="nerf_capture",
    title="Judge the photos",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=CaptureReport,
    inputs=(),
    stages=(Stage("capture", "Judge the photos", 1.0),),
    job="modal_workers.nerf.capture.job:run",
    compute=Compute(cpu_cores=2.0, memory_bytes=4 * 1024**3, timeout_s=1800.0, typical_s=20.0),
    kind="stage",
)
