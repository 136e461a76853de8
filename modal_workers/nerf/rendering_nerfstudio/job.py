"""The rendering stage with nerfstudio: the same batches, parts and checks as with splats, another source of frames."""

from __future__ import annotations

from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.nerfstudio.dataset_folder import write_folder
from modal_workers.nerf.nerfstudio.frames import NerfstudioFrames
from modal_workers.nerf.nerfstudio.settings import NerfstudioSettings
from modal_workers.nerf.nerfstudio.trainer import MODEL, unpack_run
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.rendering.job import load_scene, render
from modal_workers.nerf.rendering.spec import RenderingReport
from modal_workers.runtime.context import Context

DATASET: Final = "dataset.zip"


def run(params: NerfParams, context: Context) -> RenderingReport:
    """Render the frames of this shard.

    Raises:
        SaccadeError: BACKEND_NOT_INSTALLED, OUT_OF_MEMORY, WORKER_BROKEN; INPUT_UNREADABLE, a frame is empty.
    """
    with context.stage("rendering_nerfstudio"):
        batch, _ = context.shard
        if (done := context.checkpoint(f"rendering_{batch:03d}.json")) is not None:
            return RenderingReport.model_validate_json(done.read_bytes())
        scene, settings = load_scene(context), NerfstudioSettings()
        source = NerfstudioFrames(scene, settings, context.check)
        model, dataset = context.checkpoint(MODEL), context.checkpoint(DATASET)
        if model is None or dataset is None:
            raise SaccadeError(ErrorCode.INTERNAL, "The nerfstudio model of the training stage is missing.")
        # nerfstudio opens the photos again at the paths in its configuration.
        write_folder(dataset, settings.work / "data", params)
        unpack_run(model, settings.work / "runs")
        return render(params, context, scene, source, "cuda")
