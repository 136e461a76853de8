"""Live session that describes video, whose worker is the test itself."""

from __future__ import annotations

from pydantic import Field

from contracts.session import SessionResult
from contracts.workload import Compute, Params, Stage, Workload


class DescribedParams(Params):
    """Parameters of the described session."""

    steps: int = Field(default=4, ge=1, le=100)


WORKLOAD = Workload(
    name="described",
    title="Described",
    description="Takes frames and questions, and gives words.",
    version="1",
    params=DescribedParams,
    result=SessionResult,
    inputs=[],
    stages=[Stage("live", "Live", 1.0)],
    job="tests.session_workers.described.job:run",
    compute=Compute(memory_bytes=256 * 1024**2),
    kind="session",
    takes_prompts=True,
)
