"""Declaration of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Stage, Workload
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.result import NerfResult

WORKLOAD = Workload(
    name="nerf_exhibit",
    title="Make the pages and the report",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=NerfResult,
    inputs=(),
    stages=(Stage("exhibit", "Make the pages and the report", 1.0),),
    job="modal_workers.nerf.report.job:run",
    folder="report",
    requires=("PIL", "av", "cv2", "numpy", "torch"),
    extra="nerf",
    compute=Compute(cpu_cores=2.0, memory_bytes=4 * 1024**3, timeout_s=1800.0, typical_s=60.0),
    kind="stage",
)
