"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class CaptureReport(Result):
    """What was sent, and whether it will do."""


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
