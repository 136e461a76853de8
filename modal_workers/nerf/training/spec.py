"""What the stage needs and gives. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Result, Stage, Workload
from modal_workers.nerf.params import NerfParams


class TrainingReport(Result):
    """What was trained, and how well it shows photos it never saw."""


WORKLOAD = Workload(
    name="nerf_training",
    title="Train the model",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=TrainingReport,
    inputs=(),
    stages=(Stage("training", "Train the model", 1.0),),
    job="modal_workers.nerf.training.job:run",
    compute=Compute(
        gpus=("T4", "A10", "A100-40GB"), cpu_cores=4.0, memory_bytes=12 * 1024**3, timeout_s=6 * 3600.0, typical_s=900.0
    ),
    kind="stage",
)
