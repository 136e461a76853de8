"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class PosesReport(Result):
    """How many photos were placed, and how well."""


WORKLOAD = Workload(
    name="nerf_poses",
    title="Find where the photos were taken from",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=PosesReport,
    inputs=(),
    stages=(Stage("poses", "Find where the photos were taken from", 1.0),),
    job="modal_workers.nerf.poses.job:run",
    compute=Compute(cpu_cores=4.0, memory_bytes=8 * 1024**3, timeout_s=2 * 3600.0, typical_s=180.0),
    kind="stage",
)
