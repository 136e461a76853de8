"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class RenderingReport(Result):
    """Which frames this shard rendered, and that they were checked."""


WORKLOAD = Workload(
    name="nerf_rendering",
    title="Render the frames",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=RenderingReport,
    inputs=(),
    stages=(Stage("rendering", "Render the frames", 1.0),),
    job="modal_workers.nerf.rendering.job:run",
    compute=Compute(
        gpus=("T4", "A10", "A100-40GB"), cpu_cores=2.0, memory_bytes=8 * 1024**3, timeout_s=3600.0, typical_s=60.0
    ),
    kind="stage",
)
