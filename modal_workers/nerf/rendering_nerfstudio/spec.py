"""Declaration of the stage. Standard library, pydantic and contracts only."""

from __future__ import annotations

from contracts.workload import Compute, Stage, Workload
from modal_workers.nerf.params import NERFSTUDIO_PROGRAM, NerfParams
from modal_workers.nerf.rendering.spec import RenderingReport

WORKLOAD = Workload(
    name="nerf_rendering_nerfstudio",
    title="Render the frames with nerfstudio",
    description="A stage of nerf.",
    version="1",
    params=NerfParams,
    result=RenderingReport,
    inputs=(),
    stages=(Stage("rendering_nerfstudio", "Render the frames with nerfacto", 1.0),),
    job="modal_workers.nerf.rendering_nerfstudio.job:run",
    requires=("cv2", "numpy", "torch", NERFSTUDIO_PROGRAM),
    extra="nerf",
    compute=Compute(
        # Production starts at A10: contracts/gpu_ladder.py removes what is below an environment's minimum.
        gpus=("T4", "A10", "A100-40GB"),
        cpu_cores=2.0,
        memory_bytes=12 * 1024**3,
        timeout_s=3600.0,
        typical_s=300.0,
    ),
    kind="stage",
)
