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
from modal_workers.gaussians.densification import Densifier, GrowthLimits, PruningLimits
from modal_workers.gaussians.image_metrics import D_SSIM_SHARE, ssim
from modal_workers.gaussians.rasterize import RenderResult, rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.training import LearningRates, Optimiser
from modal_workers.nerf.training.exposure import ExposureGains

#: The part of the steps that photos are seen at half their size in: four times as fast.
_COARSE: Final = 0.4
#: Splats are added and given up in this part of the steps.
_DENSE_FROM: Final = 0.05
_DENSE_UNTIL: Final = 0.7
_DENSITY_ROUNDS: Final = 24
_ALPHA_SHARE: Final = 0.1
#: How much more alpha counts where what is behind would explain the photo alone: what need not be there is not.
_OPEN_SHARE: Final = 3.0


@dataclass(frozen=True)
class TargetImage:
    """What a step compares with: one photo, or the part of it that the object is in."""

    camera: Camera
    camera_from_world: Tensor  # [4, 4]
    picture: Tensor  # [H, W, 3] uint8
    mask: Tensor | None = None  # [H, W, 1] uint8, 255 = object
    photo: int = 0  # whose gain it is
    opened: Tensor | None = None  # [H, W, 1] uint8, 255 = may just as well be what is behind
    behind: Tensor | None = None  # [H, W, 3] uint8, only looked at where it is open

    def seen_at(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give where points [N, 3] are in the photo: columns and rows [N] px; and which are before the camera."""
        at = points @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3]
        depth = at[:, 2].clamp(min=1e-6)
        u = at[:, 0] / depth * self.camera.fx_px + self.camera.cx_px
        v = at[:, 1] / depth * self.camera.fy_px + self.camera.cy_px
        return u, v, at[:, 2] > 0.01

    def scaled(self, factor: float) -> TargetImage:
        """Give the same at another size."""
        camera = self.camera.scaled(factor)
        size = (camera.width_px, camera.height_px)
        mask, opened, behind = (_resized(one, size) for one in (self.mask, self.opened, self.behind))
        picture = _resized(self.picture, size)
        assert picture is not None
        return TargetImage(camera, self.camera_from_world, picture, mask, self.photo, opened, behind)

    def cut(self, rows: slice, columns: slice) -> TargetImage:
        """Give a part of the photo."""
        top, left = rows.start, columns.start
        camera = Camera(
            columns.stop - left,
            rows.stop - top,
            self.camera.fx_px,
            self.camera.fy_px,
            self.camera.cx_px - left,
            self.camera.cy_px - top,
        )
        picture, *others = (
            None if one is None else one[rows, columns].contiguous()
            for one in (self.picture, self.mask, self.opened, self.behind)
        )
        assert picture is not None
        return TargetImage(camera, self.camera_from_world, picture, others[0], self.photo, others[1], others[2])

    def before(self, ground: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put the object of a photo with a mask before ``ground`` [3], in 0..1, but where it is open.

        Gives the picture [H, W, 3] that should come out, what is to be put behind the splats for it, and how open [H,
        W, 1] each pixel is: there the photo stays as it is, and what is behind is the table.
        """
        assert self.mask is not None
        picture, mask = self.picture.to(ground.dtype) / 255, self.mask.to(ground.dtype) / 255
        shown, behind = picture * mask + (1 - mask) * ground, ground.expand_as(picture)
        if self.opened is None or self.behind is None:
            return shown, behind, None
        opened = self.opened.to(ground.dtype) / 255
        behind = torch.lerp(behind, self.behind.to(ground.dtype) / 255, opened)
        return torch.lerp(shown, picture, opened), behind, opened


@dataclass(frozen=True)
class FitConfig:
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
        targets: list[TargetImage],
        fit: FitConfig,
        belongs: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        """Begin with ``splats``; ``belongs`` says which of positions [N, 3] may be kept where splats are given up."""
        self._belongs = belongs
        self.fit, self._targets = fit, targets
        self._small = [one.scaled(0.5) for one in targets]
        self._device = splats.means.device
        self.optimiser = Optimiser(splats, fit.rates(0))
        self.density = Densifier(self.optimiser, seed=fit.seed)
        self.gains = (
            ExposureGains(1 + max((one.photo for one in targets), default=0), splats.means) if fit.gains else None
        )
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

    def _loss(self, rendered: RenderResult, target: TargetImage, number: int) -> Tensor:
        colour = rendered.colour
        if self.gains is not None:
            colour = colour * self.gains.factors(target.photo)
        if target.mask is None:
            picture = target.picture.to(colour.dtype) / 255
            absolute = (colour - picture).abs().mean()
        else:
            picture, behind, opened = target.before(_drawn(self.fit.seed, number, "background", 3).to(colour))
            colour = colour + (1 - rendered.alpha) * behind
            wrong = (rendered.alpha - target.mask.to(colour.dtype) / 255).abs()
            if opened is not None:
                wrong = torch.lerp(wrong, _OPEN_SHARE * rendered.alpha, opened)
            absolute = (colour - picture).abs().mean() + _ALPHA_SHARE * wrong.mean()
        return (1 - D_SSIM_SHARE) * absolute + D_SSIM_SHARE * (1 - ssim(colour, picture))

    def _target(self, number: int) -> TargetImage:
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
        self.density.prune(PruningLimits(min_opacity=0.02, max_scale_m=fit.max_scale))
        if self._belongs is not None:
            inside = self._belongs(self.splats.means.detach())
            if not bool(inside.all()):
                self.density.select(inside)
        # a part of the room each time: what is steep later is not crowded out by what was steep first
        room = len(self.splats) + max(20, math.ceil(0.12 * len(self.splats)))
        self.density.grow(GrowthLimits(split_scale_m=fit.split_scale, max_splats=min(fit.max_splats, room)))
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


def _resized(picture: Tensor | None, size: tuple[int, int]) -> Tensor | None:
    if picture is None:
        return None
    small = cv2.resize(picture.cpu().numpy(), size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.atleast_3d(small)).to(picture.device)


def _drawn(seed: int, number: int, what: str, count: int) -> Tensor:
    """Draw [count] in 0..1, always the same for the same seed, number and purpose."""
    words = np.random.SeedSequence([seed, number, sum(what.encode())])
    return torch.from_numpy(np.random.Generator(np.random.Philox(words)).random(count))
