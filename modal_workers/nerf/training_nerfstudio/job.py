"""The training stage with nerfstudio: the same files as with splats, another trainer."""

from __future__ import annotations

from modal_workers.nerf.nerfstudio.trainer import NerfstudioTrainer
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.training.job import train
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.runtime.context import Context


def run(params: NerfParams, context: Context) -> TrainingReport:
    """Train nerfacto.

    Raises:
        SaccadeError: BACKEND_NOT_INSTALLED, OUT_OF_MEMORY, WORKER_BROKEN, INVALID_PARAMETER; see the trainer.
    """
    return train(params, context, NerfstudioTrainer(), stage="training_nerfstudio")
