"""Interface of the training backends: photos with poses in, a scene and its figures out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import TrainedScene
from modal_workers.nerf.training.spec import TrainingReport
from modal_workers.runtime.context import StageContext


@dataclass(frozen=True)
class TrainingOutcome:
    """Result of a training."""

    scene: TrainedScene
    report: TrainingReport
    model: Path | None = None  # run folder of nerfstudio in one ZIP, if any
    weights: Path | None = None  # nerfstudio's checkpoint of the trained model, if any


class Trainer(Protocol):
    """Fits a radiance field. A run resumes from the checkpoint of an earlier one."""

    def train(self, dataset: Path, params: NerfParams, context: StageContext) -> TrainingOutcome:
        """Train on ``dataset.zip``.

        Raises:
            SaccadeError: the photos are not suitable, or the backend is missing.
            torch.OutOfMemoryError: the GPU is too small; the next larger one is tried.
        """
