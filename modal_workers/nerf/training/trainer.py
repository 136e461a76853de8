"""What every way of training promises, whatever it trains: photos with poses in, a scene and its figures out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import Scene
from modal_workers.nerf.stage_context import Desk
from modal_workers.nerf.training.spec import TrainingReport


@dataclass(frozen=True)
class Outcome:
    """What training has made."""

    scene: Scene
    report: TrainingReport
    model: Path | None = None  # nerfstudio's folder in one zip, where there is one


class Trainer(Protocol):
    """Fits a radiance field. A run that was ended at any moment is gone on with from what it kept at the desk."""

    def train(self, dataset: Path, params: NerfParams, desk: Desk) -> Outcome:
        """Train on ``dataset.zip``.

        Raises:
            SaccadeError: the photos do not do, or the backend is missing.
            torch.OutOfMemoryError: the GPU is too small; the next one is tried.
        """
