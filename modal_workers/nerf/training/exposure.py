"""How much brighter or redder each photo is than the others: cameras that expose every photo anew."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

_RATE: Final = 2e-3
_BETA_1: Final = 0.9
_BETA_2: Final = 0.99


class ExposureGains:
    """A factor for each channel of each photo, learnt with Adam; their geometric mean is held at 1."""

    def __init__(self, photos: int, like: Tensor) -> None:
        self._logs = like.new_zeros(photos, 3).requires_grad_()
        self._first, self._second = torch.zeros_like(self._logs), torch.zeros_like(self._logs)
        self._ages = like.new_zeros(photos)

    def factors(self, photo: int) -> Tensor:
        """Give the factors [3] of a photo; the loss's gradient reaches them."""
        return self._logs[photo].exp()

    @torch.no_grad()
    def step(self, photo: int) -> None:
        """Move a photo's factors by their gradient and forget it."""
        if self._logs.grad is None:
            return
        gradient = self._logs.grad[photo]
        self._logs.grad = None
        self._ages[photo] += 1
        age = float(self._ages[photo])
        self._first[photo].lerp_(gradient, 1 - _BETA_1)
        self._second[photo].lerp_(gradient.square(), 1 - _BETA_2)
        size = (self._second[photo] / (1 - _BETA_2**age)).sqrt() + 1e-15
        self._logs[photo] -= _RATE * self._first[photo] / (1 - _BETA_1**age) / size
        self._logs -= self._logs.mean(0)

    def state(self) -> dict[str, Any]:
        """Give all that a later run goes on from."""
        return {"logs": self._logs.detach(), "first": self._first, "second": self._second, "ages": self._ages}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self._logs = state["logs"].clone().requires_grad_()
        self._first, self._second, self._ages = state["first"].detach(), state["second"].detach(), state["ages"]


def exposure_varies(means: Tensor) -> bool:
    """Say whether photos with the mean brightnesses [V] in 0..255 were exposed differently enough to matter."""
    return bool(means.clamp(min=1).log().std() > 0.12)
