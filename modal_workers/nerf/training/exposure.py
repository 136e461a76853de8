"""Exposure compensation: a learned colour gain per photo, for cameras that expose every photo anew."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

_LEARNING_RATE: Final = 2e-3
_BETA_1: Final = 0.9
_BETA_2: Final = 0.99


class ExposureGains:
    """A factor per channel and photo, learned with Adam; their geometric mean is held at 1."""

    def __init__(self, photos: int, like: Tensor) -> None:
        self._logs = like.new_zeros(photos, 3).requires_grad_()
        self._first, self._second = torch.zeros_like(self._logs), torch.zeros_like(self._logs)
        self._steps = like.new_zeros(photos)

    def factors(self, photo: int) -> Tensor:
        """Return the factors [3] of a photo, differentiable."""
        return self._logs[photo].exp()

    @torch.no_grad()
    def step(self, photo: int) -> None:
        """Update the factors of a photo by their gradient and clear it."""
        if self._logs.grad is None:
            return
        gradient = self._logs.grad[photo]
        self._logs.grad = None
        self._steps[photo] += 1
        steps = float(self._steps[photo])
        self._first[photo].lerp_(gradient, 1 - _BETA_1)
        self._second[photo].lerp_(gradient.square(), 1 - _BETA_2)
        size = (self._second[photo] / (1 - _BETA_2**steps)).sqrt() + 1e-15
        self._logs[photo] -= _LEARNING_RATE * self._first[photo] / (1 - _BETA_1**steps) / size
        self._logs -= self._logs.mean(0)

    def state(self) -> dict[str, Any]:
        """Return everything that a later run needs to continue."""
        return {"logs": self._logs.detach(), "first": self._first, "second": self._second, "ages": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of ``state``."""
        self._logs = state["logs"].clone().requires_grad_()
        self._first, self._second, self._steps = state["first"].detach(), state["second"].detach(), state["ages"]


def exposure_varies(means: Tensor) -> bool:
    """Return whether photos with these mean brightnesses [V], 0..255, need exposure compensation."""
    return bool(means.clamp(min=1).log().std() > 0.12)
