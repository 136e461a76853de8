"""History of a training: the score curve, the best model, early stopping, and the time of all runs."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.training.spec import CurvePoint

#: Training stops when PSNR has not risen by this much in this number of consecutive scores; small rises add up.
_MIN_RISE_DB: Final = 0.05
_PATIENCE: Final = 3


class TrainingHistory:
    """Part of the state from which a run resumes."""

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
        self._risen_to_db = -np.inf  # from which the next rise is measured
        self._without_rise = 0

    def enter_object(self, scene_iterations: int) -> None:
        """Start the second fit; only the last score of the first one is kept."""
        if self.phase == 0:
            if self.curve:
                self.scene_psnr_db = self.curve[-1].psnr_db
            self.phase, self.scene_iterations = 1, scene_iterations
            self.curve, self._best, self._best_db, self._without_rise = [], None, -np.inf, 0
            self._risen_to_db = -np.inf

    def record(self, iteration: int, splats: Splats, scores: tuple[float, float] | None, *, settled: bool) -> bool:
        """Record a score; return whether training should stop. The best model is only kept once settled."""
        if scores is None:
            return False
        self.curve.append(
            CurvePoint(iteration=iteration, splats=len(splats), psnr_db=round(scores[0], 3), ssim=round(scores[1], 4))
        )
        if not settled:
            return False
        if scores[0] > self._risen_to_db + _MIN_RISE_DB:
            self._risen_to_db, self._without_rise = scores[0], 0
        else:
            self._without_rise += 1
        if scores[0] > self._best_db:
            self._best, self._best_db = splats.detach().map(torch.clone), scores[0]
        self.stopped_early = self.phase == 1 and self._without_rise >= _PATIENCE
        return self.stopped_early

    def best(self, last: Splats) -> Splats:
        """Return the model with the best score, or the last one where none was scored."""
        return last.detach() if self._best is None else self._best

    @property
    def newest(self) -> CurvePoint | None:
        """The newest score."""
        return self.curve[-1] if self.curve else None

    def state(self, seconds: float) -> dict[str, Any]:
        """Return everything that a later run needs to continue; ``seconds`` were spent in this one."""
        rows = np.array([[p.iteration, p.splats, p.psnr_db, p.ssim] for p in self.curve], np.float64).reshape(-1, 4)
        none = np.nan if self.scene_psnr_db is None else self.scene_psnr_db
        figures = [
            self.phase,
            self.seconds + seconds,
            self.resumed,
            self.scene_iterations,
            none,
            self._without_rise,
            self._best_db,
            self._risen_to_db,
        ]
        best = {} if self._best is None else {"best": self._best.tensors()}
        return {"figures": np.array(figures, np.float64), "curve": rows, **best}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of ``state``."""
        figures = state["figures"].tolist()
        phase, self.seconds, resumed, iterations, scene_psnr, without_rise, self._best_db, *risen_to_db = figures
        # Workers before this figure took the best score for it.
        self._risen_to_db = risen_to_db[0] if risen_to_db else self._best_db
        self.phase, self.resumed, self.scene_iterations = int(phase), int(resumed) + 1, int(iterations)
        self.scene_psnr_db = None if np.isnan(scene_psnr) else scene_psnr
        self._without_rise = int(without_rise)
        self.stopped_early = self.phase == 1 and self._without_rise >= _PATIENCE
        self.curve = [
            CurvePoint(iteration=int(iteration), splats=int(splats), psnr_db=psnr_db, ssim=ssim)
            for iteration, splats, psnr_db, ssim in state["curve"].tolist()
        ]
        self._best = Splats(**state["best"]) if "best" in state else None
