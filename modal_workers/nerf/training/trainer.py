"""What every way of training promises, whatever it trains: photos with poses in, a scene and its figures out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.scene import Scene
from modal_workers.nerf.training.spec import TrainingReport


class Desk(Protocol):
    """What training asks of the world; a ``Context`` has it all."""

    @property
    def scratch(self) -> Path:
        """Empty folder of this run."""

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far it is; raises ``Stopped`` where the job was asked to stop."""

    def checkpoint(self, name: str) -> Path | None:
        """Fetch what an earlier run kept, or None."""

    def keep(self, path: Path, name: str) -> None:
        """Keep a file for the next run and the next stages."""


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
