"""Declaration of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Stage, Workload
from modal_workers.nerf.params import NERFSTUDIO_PROGRAM, NerfParams
from modal_workers.nerf.training.spec import TrainingReport

WORKLOAD = Workload(
    name="nerf_training_nerfstudio",
    title="Train the model with nerfstudio",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=TrainingReport,
    inputs=(),
    stages=(Stage("training_nerfstudio", "Train nerfacto", 1.0),),
    job="modal_workers.nerf.training_nerfstudio.job:run",
    requires=("cv2", "numpy", "torch", NERFSTUDIO_PROGRAM),
    extra="nerf",
    compute=Compute(
        # Production starts at A10: contracts/gpu_ladder.py removes what is below an environment's minimum.
        gpus=("T4", "A10", "A100-40GB"),
        cpu_cores=4.0,
        memory_bytes=16 * 1024**3,
        timeout_s=6 * 3600.0,
        typical_s=1200.0,
    ),
    kind="stage",
)
