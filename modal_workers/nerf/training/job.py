"""The training stage: the dataset in, the trained scene for rendering and the model as artifacts out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.ply import encode_ply
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.training.config import config_of
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.nerf.training.splat_trainer import SplatTrainer
from modal_workers.nerf.training.trainer import Trainer, TrainingOutcome
from modal_workers.runtime.context import Context

DATASET: Final = "dataset.zip"
SCENE: Final = "scene.npz"
REPORT: Final = "training.json"
MODEL: Final = "nerfstudio.zip"


def run(params: NerfParams, context: Context) -> TrainingReport:
    """Train with the backend of the parameters.

    Raises:
        SaccadeError: INPUT_UNREADABLE, INVALID_PARAMETER, INTERNAL; see the trainers.
    """
    return train(params, context, SplatTrainer())


def train(params: NerfParams, context: Context, trainer: Trainer, *, stage: str = "training") -> TrainingReport:
    """Run the stage with any trainer; a finished stage is not run again."""
    with context.stage(stage):
        if (done := context.checkpoint(REPORT)) is not None:
            return TrainingReport.model_validate_json(done.read_bytes())
        dataset = context.checkpoint(DATASET)
        if dataset is None:
            raise SaccadeError(ErrorCode.INTERNAL, "The dataset of the poses stage is missing.")
        context.progress(0.0, "reading the photos")
        outcome = trainer.train(dataset, params, context)
        _save(params, context, outcome)
        context.progress(1.0, "trained")
    return outcome.report


def _save(params: NerfParams, context: Context, outcome: TrainingOutcome) -> None:
    """Save the model; the report last: where it exists, everything does."""
    folder, scene = context.scratch, outcome.scene
    if scene.splats is not None:
        importance = scene.splats.logit_opacities.sigmoid() * scene.splats.log_scales.sum(1).exp().pow(2 / 3)
        encode_ply(scene.splats, importance=importance).write(folder / "splat.ply")
        context.save(folder / "splat.ply", "model/splat.ply", "application/octet-stream", title="The splats")
    _write(folder / "config.json", config_of(params, scene, outcome.report))
    context.save(folder / "config.json", "model/config.json", "application/json", title="How it was trained")
    if outcome.weights is not None:
        title = "The trained model of nerfstudio, a checkpoint of PyTorch"
        context.save(outcome.weights, "model/model.pth", "application/octet-stream", title=title)
    if outcome.model is not None:
        context.keep(outcome.model, MODEL)
    scene.save(folder / SCENE)
    context.keep(folder / SCENE, SCENE)
    _write(folder / REPORT, outcome.report.model_dump(mode="json"))
    context.keep(folder / REPORT, REPORT)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
