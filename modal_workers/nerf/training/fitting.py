"""One fit of splats to photos: which photo each step sees, at which size, how fast it learns, when splats are added.

Nothing random is kept between steps but what splits splats: the order of the photos and the backgrounds follow from
the seed and the step's number, so a fit that goes on from a checkpoint does the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.density import Density, Growth, Pruning
from modal_workers.gaussians.rasterize import Rendered, rasterize
from modal_workers.gaussians.similarity import D_SSIM_SHARE, ssim
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.training import LearningRates, Optimiser
from modal_workers.nerf.training.gains import Gains

#: The part of the steps that photos are seen at half their size in: four times as fast.
_COARSE: Final = 0.4
#: Splats are added and given up in this part of the steps.
_DENSE_FROM: Final = 0.05
_DENSE_UNTIL: Final = 0.7
_DENSITY_ROUNDS: Final = 24
_ALPHA_SHARE: Final = 0.1


@dataclass(frozen=True)
class Target:
    """What a step compares with: one photo, or the part of it that the object is in."""

    camera: Camera
    camera_from_world: Tensor  # [4, 4]
    picture: Tensor  # [H, W, 3] uint8
    mask: Tensor | None = None  # [H, W, 1] uint8, 255 = object
    photo: int = 0  # whose gain it is

    def scaled(self, factor: float) -> Target:
        """Give the same at another size."""
        camera = self.camera.scaled(factor)
        size = (camera.width_px, camera.height_px)
        pictures = [self.picture] if self.mask is None else [self.picture, self.mask]
        small = [cv2.resize(one.cpu().numpy(), size, interpolation=cv2.INTER_AREA) for one in pictures]
        tensors = [torch.from_numpy(np.atleast_3d(one)).to(self.picture.device) for one in small]
        return Target(camera, self.camera_from_world, tensors[0], tensors[1] if len(tensors) > 1 else None, self.photo)


@dataclass(frozen=True)
class Fit:
    """How a fit goes. Lengths are in the scene's unit: the cameras are about 1 from the middle."""

    iterations: int
    max_splats: int
    seed: int
    harmonics: int = 0
    gains: bool = False
    max_scale: float | None = None
    split_scale: float = 0.01
    means_rate: float = 1e-3

    def rates(self, iteration: int) -> LearningRates:
        """Give the rates of a step; that of the means falls to a hundredth, the others to a fifth."""
        done = iteration / max(1, self.iterations)
        fade = 0.2**done
        return LearningRates(
            means=self.means_rate * 0.01**done,
            log_scales=1e-2 * fade,
            quaternions=3e-3 * fade,
            logit_opacities=5e-2 * fade,
            colours=1.5e-2 * fade,
            sh_rest=1.5e-2 / 20 * fade,
        )

    def harmonics_at(self, iteration: int) -> int:
        """Give how many coefficients are learnt by now: one degree more at each tenth of the fit."""
        degrees = (0, 3, 8, 15)
        return min(degrees[min(3, 10 * iteration // max(1, self.iterations))], self.harmonics)


class Fitting:
    """A fit that is under way."""

    def __init__(
        self,
        splats: Splats,
        targets: list[Target],
        fit: Fit,
        belongs: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Begin with ``splats``; ``belongs`` says which of positions [N, 3] may be kept where splats are given up."""
        self._belongs = belongs
        self.fit, self._targets = fit, targets
        self._small = [one.scaled(0.5) for one in targets]
        self._device = splats.means.device
        self.optimiser = Optimiser(splats, fit.rates(0))
        self.density = Density(self.optimiser, seed=fit.seed)
        self.gains = Gains(1 + max((one.photo for one in targets), default=0), splats.means) if fit.gains else None
        self.iteration = 0
        self._every = max(10, round((_DENSE_UNTIL - _DENSE_FROM) * fit.iterations / _DENSITY_ROUNDS))

    @property
    def splats(self) -> Splats:
        """The splats as they are now."""
        return self.optimiser.splats

    @property
    def settled(self) -> bool:
        """Whether no splats are added any more."""
        return self.iteration > _DENSE_UNTIL * self.fit.iterations

    def step(self) -> float:
        """Do one step; give its loss."""
        fit, number = self.fit, self.iteration
        target = self._target(number)
        self.optimiser.rates = fit.rates(number)
        if (count := fit.harmonics_at(number)) > self._harmonics():
            self.optimiser.learn_harmonics(count)
        rendered = rasterize(self.optimiser.splats, target.camera, target.camera_from_world)
        value = self._loss(rendered, target, number)
        if value.requires_grad:
            torch.autograd.backward(value)
        self.density.watch(rendered, target.camera)
        self.optimiser.step()
        if self.gains is not None:
            self.gains.step(target.photo)
        self.iteration += 1
        self._reshape()
        return float(value.detach())

    def _loss(self, rendered: Rendered, target: Target, number: int) -> Tensor:
        colour, picture = rendered.colour, target.picture.to(rendered.colour.dtype) / 255
        if self.gains is not None:
            colour = colour * self.gains.factors(target.photo)
        if target.mask is None:
            absolute = (colour - picture).abs().mean()
        else:
            mask = target.mask.to(colour.dtype) / 255
            background = _drawn(self.fit.seed, number, "background", 3).to(colour)
            colour = colour + (1 - rendered.alpha) * background
            picture = picture * mask + (1 - mask) * background
            absolute = (colour - picture).abs().mean() + _ALPHA_SHARE * (rendered.alpha - mask).abs().mean()
        return (1 - D_SSIM_SHARE) * absolute + D_SSIM_SHARE * (1 - ssim(colour, picture))

    def _target(self, number: int) -> Target:
        """Take the photos in turn, every round in another order."""
        turn, place = divmod(number, len(self._targets))
        chosen = int(torch.argsort(_drawn(self.fit.seed, turn, "order", len(self._targets)))[place])
        return (self._small if number < _COARSE * self.fit.iterations else self._targets)[chosen]

    def _harmonics(self) -> int:
        rest = self.optimiser.splats.sh_rest
        return 0 if rest is None else rest.shape[1]

    def _reshape(self) -> None:
        """Add and give up splats where it is time."""
        fit, now = self.fit, self.iteration
        if now % self._every or not _DENSE_FROM * fit.iterations <= now <= _DENSE_UNTIL * fit.iterations:
            return
        self.density.prune(Pruning(min_opacity=0.02, max_scale_m=fit.max_scale))
        if self._belongs is not None:
            inside = self._belongs(self.splats.means.detach())
            if not bool(inside.all()):
                self.density.select(inside)
        # a part of the room each time: what is steep later is not crowded out by what was steep first
        room = len(self.splats) + max(20, math.ceil(0.12 * len(self.splats)))
        self.density.grow(Growth(split_scale_m=fit.split_scale, max_splats=min(fit.max_splats, room)))
        self.density.cap(fit.max_splats)

    def state(self) -> dict[str, Any]:
        """Give all that a later run goes on from."""
        gains = {} if self.gains is None else {"gains": self.gains.state()}
        return {"iteration": torch.tensor(self.iteration), "density": self.density.state(), **gains}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.iteration = int(state["iteration"])
        self.density.restore(state["density"])
        if self.gains is not None:
            self.gains.restore(state["gains"])


def _drawn(seed: int, number: int, what: str, count: int) -> Tensor:
    """Draw [count] in 0..1, always the same for the same seed, number and purpose."""
    words = np.random.SeedSequence([seed, number, sum(what.encode())])
    return torch.from_numpy(np.random.Generator(np.random.Philox(words)).random(count))
