"""A live session whose worker is played by the test itself."""

from __future__ import annotations

from pydantic import Field

from contracts.events.session import FrameTotals
from contracts.workload import Compute, Params, Result, Stage, Workload

#: Two joints of a robot, with their limits.
JOINT_LIMITS_RAD = {"pan": (-1.92, 1.92), "lift": (-1.75, 1.75)}


class StreamedParams(Params):
    """What can be set."""

    steps: int = Field(default=4, ge=1, le=100)


class StreamedResult(Result):
    """What a session's worker leaves."""

    reason: str
    chunks: int
    totals: FrameTotals


WORKLOAD = Workload(
    name="streamed",
    title="Streamed",
    description="Takes frames and gives counts.",
    version="1",
    params=StreamedParams,
    result=StreamedResult,
    inputs=[],
    stages=[Stage("live", "Live", 1.0)],
    job="tests.session_workers.streamed.job:run",
    compute=Compute(memory_bytes=256 * 1024**2),
    kind="session",
)
