"""Declaration of the describing worker."""

from __future__ import annotations

from pydantic import Field

from contracts.workload import Compute, Stage, Workload
from modal_workers.vision_stream.spec import VisionStreamParams, VisionStreamResult


class DescribingParams(VisionStreamParams):
    """Parameters of a vision stream, and the speed of its model."""

    load_s: float = Field(default=0.0, ge=0)
    word_s: float = Field(default=0.0, ge=0)
    #: Pixels of the largest chunk that it has the memory for.
    memory_px: int = Field(default=10_000_000, ge=1)


WORKLOAD = Workload(
    name="describing",
    title="Describing",
    description="Names the colours of what it is shown.",
    version="1.0.0",
    params=DescribingParams,
    result=VisionStreamResult,
    inputs=(),
    stages=(Stage("watch", "Watch", 1.0),),
    job="tests.session_workers.describing.session:run",
    kind="session",
    replayable=False,
    takes_prompts=True,
    compute=Compute(timeout_s=600.0, typical_s=10.0),
)
