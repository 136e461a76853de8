"""One fit of splats to photos: order and size of the photos, learning rates, densification.

Nothing random is kept between steps except the splitting of splats: the order of the photos and the backgrounds follow
from the seed and the step number, so a fit that resumes from a checkpoint repeats the same steps.
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
from modal_workers.gaussians.densification import Densifier, GrowthLimits, PruningLimits
from modal_workers.gaussians.image_metrics import D_SSIM_SHARE, ssim
from modal_workers.gaussians.rasterize import RenderResult, rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.training import LearningRates, Optimiser
from modal_workers.nerf.training.exposure import ExposureGains

#: Part of the steps with photos at half size: four times as fast.
_COARSE_SHARE: Final = 0.4
#: Part of the steps with densification and pruning.
_DENSE_FROM: Final = 0.05
_DENSE_UNTIL: Final = 0.7
_DENSITY_ROUNDS: Final = 24
_ALPHA_SHARE: Final = 0.1
#: Weight of alpha where the background alone would explain the photo: splats that are not needed are removed.
_AMBIGUOUS_WEIGHT: Final = 3.0


@dataclass(frozen=True)
class TargetImage:
    """Target of a training step: one photo, or the crop that contains the object."""

    camera: Camera
    camera_from_world: Tensor  # [4, 4]
    image: Tensor  # [H, W, 3] uint8
    mask: Tensor | None = None  # [H, W, 1] uint8, 255 = object
    photo: int = 0  # index of its exposure gain
    ambiguous: Tensor | None = None  # [H, W, 1] uint8, 255 = may be object or table
    table: Tensor | None = None  # [H, W, 3] uint8, colours of the table; used where ambiguous

    def project(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project points [N, 3]: columns and rows [N] px, and which are in front of the camera."""
        positions = points @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3]
        depth = positions[:, 2].clamp(min=1e-6)
        u = positions[:, 0] / depth * self.camera.fx_px + self.camera.cx_px
        v = positions[:, 1] / depth * self.camera.fy_px + self.camera.cy_px
        return u, v, positions[:, 2] > 0.01

    def scaled(self, factor: float) -> TargetImage:
        """Return the target at another size."""
        camera = self.camera.scaled(factor)
        size = (camera.width_px, camera.height_px)
        mask, ambiguous, table = (_resized(layer, size) for layer in (self.mask, self.ambiguous, self.table))
        image = _resized(self.image, size)
        assert image is not None
        return TargetImage(camera, self.camera_from_world, image, mask, self.photo, ambiguous, table)

    def crop(self, rows: slice, columns: slice) -> TargetImage:
        """Return a crop of the target."""
        top, left = rows.start, columns.start
        camera = Camera(
            columns.stop - left,
            rows.stop - top,
            self.camera.fx_px,
            self.camera.fy_px,
            self.camera.cx_px - left,
            self.camera.cy_px - top,
        )
        image, *others = (
            None if layer is None else layer[rows, columns].contiguous()
            for layer in (self.image, self.mask, self.ambiguous, self.table)
        )
        assert image is not None
        return TargetImage(camera, self.camera_from_world, image, others[0], self.photo, others[1], others[2])

    def composite(self, backdrop: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Composite the object of a photo with a mask over ``backdrop`` [3], in 0..1, except where it is ambiguous.

        Returns the expected image [H, W, 3], the background for the splats, and how ambiguous [H, W, 1] each pixel is:
        there the photo is kept and the background is the table.
        """
        assert self.mask is not None
        image, mask = self.image.to(backdrop.dtype) / 255, self.mask.to(backdrop.dtype) / 255
        expected, background = image * mask + (1 - mask) * backdrop, backdrop.expand_as(image)
        if self.ambiguous is None or self.table is None:
            return expected, background, None
        ambiguous = self.ambiguous.to(backdrop.dtype) / 255
        background = torch.lerp(background, self.table.to(backdrop.dtype) / 255, ambiguous)
        return torch.lerp(expected, image, ambiguous), background, ambiguous


@dataclass(frozen=True)
class FitConfig:
    """Settings of a fit. Lengths are in the unit of the scene: the cameras are about 1 from the centre."""

    iterations: int
    max_splats: int
    seed: int
    harmonics: int = 0
    gains: bool = False
    max_scale: float | None = None
    split_scale: float = 0.01
    means_rate: float = 1e-3

    def rates(self, iteration: int) -> LearningRates:
        """Return the learning rates of a step; that of the means falls to a hundredth, the others to a fifth."""
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
        """Return the number of coefficients learned so far: one degree more at each tenth of the fit."""
        degrees = (0, 3, 8, 15)
        return min(degrees[min(3, 10 * iteration // max(1, self.iterations))], self.harmonics)


class Fitting:
    """A fit in progress."""

    def __init__(
        self,
        splats: Splats,
        targets: list[TargetImage],
        fit: FitConfig,
        keeps: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Start with ``splats``; ``keeps`` returns which positions [N, 3] may be kept when splats are pruned."""
        self._keeps = keeps
        self.fit, self._targets = fit, targets
        self._small = [target.scaled(0.5) for target in targets]
        self._device = splats.means.device
        self.optimiser = Optimiser(splats, fit.rates(0))
        self.density = Densifier(self.optimiser, seed=fit.seed)
        self.gains = (
            ExposureGains(1 + max((target.photo for target in targets), default=0), splats.means) if fit.gains else None
        )
        self.iteration = 0
        self._every = max(10, round((_DENSE_UNTIL - _DENSE_FROM) * fit.iterations / _DENSITY_ROUNDS))

    @property
    def splats(self) -> Splats:
        """The current splats."""
        return self.optimiser.splats

    @property
    def settled(self) -> bool:
        """Whether densification is over."""
        return self.iteration > _DENSE_UNTIL * self.fit.iterations

    def step(self) -> float:
        """Run one step and return its loss."""
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
        self._densify_and_prune()
        return float(value.detach())

    def _loss(self, rendered: RenderResult, target: TargetImage, number: int) -> Tensor:
        colour = rendered.colour
        if self.gains is not None:
            colour = colour * self.gains.factors(target.photo)
        if target.mask is None:
            image = target.image.to(colour.dtype) / 255
            absolute = (colour - image).abs().mean()
        else:
            image, background, ambiguous = target.composite(_random(self.fit.seed, number, "background", 3).to(colour))
            colour = colour + (1 - rendered.alpha) * background
            alpha_error = (rendered.alpha - target.mask.to(colour.dtype) / 255).abs()
            if ambiguous is not None:
                alpha_error = torch.lerp(alpha_error, _AMBIGUOUS_WEIGHT * rendered.alpha, ambiguous)
            absolute = (colour - image).abs().mean() + _ALPHA_SHARE * alpha_error.mean()
        return (1 - D_SSIM_SHARE) * absolute + D_SSIM_SHARE * (1 - ssim(colour, image))

    def _target(self, number: int) -> TargetImage:
        """Return the photo of a step; every round has another order."""
        turn, place = divmod(number, len(self._targets))
        chosen = int(torch.argsort(_random(self.fit.seed, turn, "order", len(self._targets)))[place])
        return (self._small if number < _COARSE_SHARE * self.fit.iterations else self._targets)[chosen]

    def _harmonics(self) -> int:
        rest = self.optimiser.splats.sh_rest
        return 0 if rest is None else rest.shape[1]

    def _densify_and_prune(self) -> None:
        """Densify and prune the splats where it is due."""
        fit, now = self.fit, self.iteration
        if now % self._every or not _DENSE_FROM * fit.iterations <= now <= _DENSE_UNTIL * fit.iterations:
            return
        self.density.prune(PruningLimits(min_opacity=0.02, max_scale_m=fit.max_scale))
        if self._keeps is not None:
            inside = self._keeps(self.splats.means.detach())
            if not bool(inside.all()):
                self.density.select(inside)
        # Only a part of the budget each time, so that early gradients do not use it all.
        room = len(self.splats) + max(20, math.ceil(0.12 * len(self.splats)))
        self.density.grow(GrowthLimits(split_scale_m=fit.split_scale, max_splats=min(fit.max_splats, room)))
        self.density.cap(fit.max_splats)

    def state(self) -> dict[str, Any]:
        """Return everything that a later run needs to continue."""
        gains = {} if self.gains is None else {"gains": self.gains.state()}
        return {"iteration": torch.tensor(self.iteration), "density": self.density.state(), **gains}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a result of ``state``."""
        self.iteration = int(state["iteration"])
        self.density.restore(state["density"])
        if self.gains is not None:
            self.gains.restore(state["gains"])


def _resized(image: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    if image is None:
        return None
    small = cv2.resize(image.cpu().numpy(), size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.atleast_3d(small)).to(image.device)


def _random(seed: int, number: int, what: str, count: int) -> Tensor:
    """Draw [count] numbers in 0..1, always the same for the same seed, number and purpose."""
    words = np.random.SeedSequence([seed, number, sum(what.encode())])
    return torch.from_numpy(np.random.Generator(np.random.Philox(words)).random(count))
