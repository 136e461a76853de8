"""Cost estimate of the later stages, from their declarations and the price table. Pure."""

from __future__ import annotations

from contracts.gpu_ladder import gpu_ladder
from contracts.prices import PRICES, price_usd_per_s
from contracts.workload import Workload
from modal_workers.nerf.capture.spec import Estimate, StageEstimate
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.poses.spec import WORKLOAD as POSES
from modal_workers.nerf.rendering.spec import WORKLOAD as RENDERING
from modal_workers.nerf.rendering_nerfstudio.spec import WORKLOAD as RENDERING_NERFSTUDIO
from modal_workers.nerf.spec import WORKLOAD as PIPELINE
from modal_workers.nerf.training.spec import WORKLOAD as TRAINING
from modal_workers.nerf.training_nerfstudio.spec import WORKLOAD as TRAINING_NERFSTUDIO

_WORK: dict[str, Workload] = {
    work.name: work for work in (POSES, TRAINING, TRAINING_NERFSTUDIO, RENDERING, RENDERING_NERFSTUDIO)
}


def estimate_later_stages(params: NerfParams) -> Estimate:
    """Estimate the stages between capture and the report, each on its first device, without early exits."""
    # Where only the photos are judged, the estimate is that of the job that would go on.
    whole = params.model_copy(update={"preflight_only": False})
    stages: list[StageEstimate] = []
    for stage in PIPELINE.stages:
        work = _WORK.get(stage.work)
        if work is None or not stage.needed(whole):
            continue
        jobs = stage.shards(params)
        device = gpu_ladder(work.compute.gpus, "production")[0] if work.compute.gpus else "cpu"
        seconds = jobs * work.compute.typical_s
        usd = seconds * price_usd_per_s(device)
        stages.append(StageEstimate(stage=stage.name, device=device, jobs=jobs, seconds=seconds, usd=round(usd, 6)))
    read_on = max(price.read_on for price in PRICES.values()).isoformat()
    return Estimate(stages=stages, usd=round(sum(estimate.usd for estimate in stages), 6), prices_read_on=read_on)
