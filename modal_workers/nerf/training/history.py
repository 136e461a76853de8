"""What training remembers of itself: the curve of scores, the best model, when to stop, and time spent in all runs."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.training.spec import CurvePoint

#: Training stops when PSNR has not risen by this in so many scores one after the other.
_RISE_DB: Final = 0.05
_PATIENCE: Final = 3


class TrainingHistory:
    """Part of the state that a run goes on from."""

    def __init__(self) -> None:
        self.phase = 0  # 0 the whole scene, 1 the object
        self.seconds = 0.0  # of earlier runs
        self.resumed = 0
        self.scene_iterations = 0
        self.iteration = 0  # at which the newest fit ended
        self.scene_psnr_db: float | None = None
        self.curve: list[CurvePoint] = []
        self.stopped_early = False
        self._best: Splats | None = None
        self._best_db = -np.inf
        self._waited = 0

    def enter_object(self, scene_iterations: int) -> None:
        """Begin the second fit; the first one's curve is only remembered by its last score."""
        if self.phase == 0:
            if self.curve:
                self.scene_psnr_db = self.curve[-1].psnr_db
            self.phase, self.scene_iterations = 1, scene_iterations
            self.curve, self._best, self._best_db, self._waited = [], None, -np.inf, 0

    def note(self, iteration: int, splats: Splats, found: tuple[float, float] | None, *, settled: bool) -> bool:
        """Take in a score; say whether nothing is won any more. The best is only kept of a settled model."""
        if found is None:
            return False
        self.curve.append(
            CurvePoint(iteration=iteration, splats=len(splats), psnr_db=round(found[0], 3), ssim=round(found[1], 4))
        )
        if not settled:
            return False
        self._waited = 0 if found[0] > self._best_db + _RISE_DB else self._waited + 1
        if found[0] > self._best_db:
            self._best, self._best_db = splats.detach().map(torch.clone), found[0]
        self.stopped_early = self.phase == 1 and self._waited >= _PATIENCE
        return self.stopped_early

    def best(self, last: Splats) -> Splats:
        """Give the model with the best score, or the last one where none was scored."""
        return last.detach() if self._best is None else self._best

    @property
    def newest(self) -> CurvePoint | None:
        """The newest score."""
        return self.curve[-1] if self.curve else None

    def state(self, seconds: float) -> dict[str, Any]:
        """Give all that a later run goes on from; ``seconds`` were spent in this one."""
        rows = np.array([[p.iteration, p.splats, p.psnr_db, p.ssim] for p in self.curve], np.float64).reshape(-1, 4)
        none = np.nan if self.scene_psnr_db is None else self.scene_psnr_db
        figures = [
            self.phase,
            self.seconds + seconds,
            self.resumed,
            self.scene_iterations,
            none,
            self._waited,
            self._best_db,
        ]
        best = {} if self._best is None else {"best": self._best.tensors()}
        return {"figures": np.array(figures, np.float64), "curve": rows, **best}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        phase, self.seconds, resumed, iterations, scene_psnr, waited, self._best_db = state["figures"].tolist()
        self.phase, self.resumed, self.scene_iterations = int(phase), int(resumed) + 1, int(iterations)
        self.scene_psnr_db = None if np.isnan(scene_psnr) else scene_psnr
        self._waited = int(waited)
        self.stopped_early = self.phase == 1 and self._waited >= _PATIENCE
        self.curve = [
            CurvePoint(iteration=int(iteration), splats=int(splats), psnr_db=psnr_db, ssim=ssim)
            for iteration, splats, psnr_db, ssim in state["curve"].tolist()
        ]
        self._best = Splats(**state["best"]) if "best" in state else None
