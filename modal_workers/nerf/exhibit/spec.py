"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class NerfResult(Result):
    """The whole: verdict, figures, quality, cost; what was not run is left out."""


WORKLOAD = Workload(
    name="nerf_exhibit",
    title="Make what is looked at",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=NerfResult,
    inputs=(),
    stages=(Stage("exhibit", "Make what is looked at", 1.0),),
    job="modal_workers.nerf.exhibit.job:run",
    compute=Compute(cpu_cores=2.0, memory_bytes=4 * 1024**3, timeout_s=1800.0, typical_s=60.0),
    kind="stage",
)
