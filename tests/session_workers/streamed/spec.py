"""Live session whose worker is the test itself."""

from __future__ import annotations

from pydantic import Field

from contracts.session import SessionResult
from contracts.workload import Compute, Params, Stage, Workload


class StreamedParams(Params):
    """Parameters of the streamed session."""

    steps: int = Field(default=4, ge=1, le=100)


WORKLOAD = Workload(
    name="streamed",
    title="Streamed",
    description="Takes frames and gives counts.",
    version="1",
    params=StreamedParams,
    result=SessionResult,
    inputs=[],
    stages=[Stage("live", "Live", 1.0)],
    job="tests.session_workers.streamed.job:run",
    compute=Compute(memory_bytes=256 * 1024**2),
    kind="session",
    joint_limits_rad={"pan": (-1.92, 1.92), "lift": (-1.75, 1.75)},
)
