"""Declaration of the watching worker."""

from __future__ import annotations

from pydantic import Field

from contracts.session import SessionResult
from contracts.workload import Compute, Params, Stage, Workload


class WatchingParams(Params):
    """Parameters: time per frame, and frames per chunk."""

    service_s: float = Field(default=0.0, ge=0)
    chunk_frames: int = Field(default=5, ge=1)
    #: Number of accepted frames in this run after which the worker kills itself.
    dies_after: int | None = None


WORKLOAD = Workload(
    name="watching",
    title="Watching",
    description="Notes what it is given.",
    version="1.0.0",
    params=WatchingParams,
    result=SessionResult,
    inputs=(),
    stages=(Stage("live", "Live", 1.0),),
    job="tests.session_workers.watching.session:run",
    kind="session",
    compute=Compute(timeout_s=600.0, typical_s=10.0),
    joint_limits_rad={"pan": (-1.9, 1.9)},
)
