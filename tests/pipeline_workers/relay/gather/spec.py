"""Declaration of the stage."""

from __future__ import annotations

from contracts.workload import Compute, Result, Stage, Workload
from tests.pipeline_workers.relay.params import RelayParams


class RelayReport(Result):
    """Result of the stage."""

    text: str


WORKLOAD = Workload(
    name="relay_gather",
    title="Gather",
    description="A stage of relay.",
    version="1",
    params=RelayParams,
    result=RelayReport,
    inputs=(),
    stages=(Stage("gather", "Gather", 1.0),),
    job="tests.pipeline_workers.relay.gather.job:run",
    compute=Compute(gpus=("T4", "A100-40GB"), memory_bytes=256 * 1024**2, typical_s=10.0),
    kind="stage",
    max_attempts=2,
)
