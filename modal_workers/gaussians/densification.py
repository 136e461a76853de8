"""Where splats are added and which are given up, so that a bounded number of them explains the pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.rendered import RenderResult
from modal_workers.gaussians.splats import SH_0, Splats, rotations
from modal_workers.gaussians.training import Optimiser


def splats_from_points(points: Tensor, colours: Tensor, scales_m: Tensor | float, opacity: Tensor | float) -> Splats:
    """Give round splats at points [N, 3] m with colours [N, 3] in 0..1, of one size and opacity or of [N] each."""
    count = len(points)
    logs = torch.as_tensor(scales_m, dtype=points.dtype, device=points.device).expand(count).log()
    logits = torch.as_tensor(opacity, dtype=points.dtype, device=points.device).expand(count).logit()
    upright = points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    return Splats(
        points.clone(), logs[:, None].repeat(1, 3), upright, logits.clone(), (colours.to(points.dtype) - 0.5) / SH_0
    )


@dataclass(frozen=True)
class PruningLimits:
    """Which splats are given up; a limit that is None gives up none."""

    min_opacity: float = 0.005
    max_scale_m: float | None = None  # of the longest axis
    min_sightings: int | None = None  # of the pictures since the last pruning


@dataclass(frozen=True)
class GrowthLimits:
    """Which splats are doubled. Source: Kerbl et al. 2023, section 5.2, with the limits of gsplat's DefaultStrategy."""

    min_gradient: float = 2e-4  # of the loss by the position in the picture, its half sides being 1
    split_scale_m: float = 0.01  # larger ones are split, smaller ones are cloned
    max_splats: int = 1_000_000


class Densifier:
    """Watches training and changes the splats of its optimiser; all its figures follow the splats.

    Seeded: the same seed and the same steps give the same splats.
    """

    def __init__(self, optimiser: Optimiser, *, seed: int = 0) -> None:
        self.optimiser = optimiser
        device = optimiser.splats.means.device
        self._generator = torch.Generator(device=device).manual_seed(seed)
        count = len(optimiser.splats)
        self._gradients = torch.zeros(count, device=device)  # summed since the last growth
        self._pulls = torch.zeros(count, dtype=torch.int64, device=device)  # steps that they were summed over
        self._sightings = torch.zeros(count, dtype=torch.int64, device=device)  # since the last pruning
        self._areas_px2 = torch.zeros(count, device=device)  # 0 as long as it was not seen

    def state(self) -> dict[str, Any]:
        """Give all that a later run goes on from, the optimiser's too."""
        return {
            "optimiser": self.optimiser.state(),
            "generator": self._generator.get_state(),
            "gradients": self._gradients,
            "pulls": self._pulls,
            "sightings": self._sightings,
            "areas_px2": self._areas_px2,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what ``state`` gave."""
        self.optimiser.restore(state["optimiser"])
        self._generator.set_state(state["generator"].cpu())
        self._gradients, self._pulls = state["gradients"], state["pulls"]
        self._sightings, self._areas_px2 = state["sightings"], state["areas_px2"]

    @torch.no_grad()
    def watch(self, rendered: RenderResult, camera: Camera) -> None:
        """Note what a step has drawn, before splats are added or given up."""
        seen = rendered.radii_px > 0
        self._sightings += seen
        # the box of a splat reaches 3.33 of its standard deviations at most, so this is about its area
        areas = rendered.radii_px.square().to(self._areas_px2.dtype)
        before = torch.where(self._areas_px2 > 0, self._areas_px2, areas)
        # what is out of sight for a while stays as important as it was
        self._areas_px2 = torch.where(seen, before.lerp(areas, 0.05), self._areas_px2)
        gradient = rendered.means2d_gradient()
        if gradient is not None:
            half = gradient.new_tensor([camera.width_px / 2, camera.height_px / 2])
            self._gradients += (gradient * half).norm(dim=-1) * seen
            self._pulls += seen

    def add(self, splats: Splats) -> None:
        """Add splats; they count as unseen."""
        self.optimiser.add(splats)
        self._gradients = _longer(self._gradients, len(splats))
        self._pulls = _longer(self._pulls, len(splats))
        self._sightings = _longer(self._sightings, len(splats))
        self._areas_px2 = _longer(self._areas_px2, len(splats))

    def select(self, chosen: Tensor) -> None:
        """Keep those of a mask [N] or of indices [M]."""
        self.optimiser.select(chosen)
        self._gradients, self._pulls = self._gradients[chosen], self._pulls[chosen]
        self._sightings, self._areas_px2 = self._sightings[chosen], self._areas_px2[chosen]

    @torch.no_grad()
    def importance(self) -> Tensor:
        """Give opacity x area seen [N]; of what was not seen yet, the smallest area of those that were."""
        seen = self._areas_px2 > 0
        least = self._areas_px2[seen].min() if bool(seen.any()) else self._areas_px2.new_ones(())
        areas = torch.where(seen, self._areas_px2, least)
        return self.optimiser.splats.logit_opacities.sigmoid() * areas

    @torch.no_grad()
    def prune(self, pruning: PruningLimits) -> int:
        """Give up what the limits say, and what is not finite; say how many."""
        splats = self.optimiser.splats
        kept = splats.finite() & (splats.logit_opacities.sigmoid() >= pruning.min_opacity)
        if pruning.max_scale_m is not None:
            kept &= splats.log_scales.amax(-1) <= math.log(pruning.max_scale_m)
        if pruning.min_sightings is not None:
            kept &= self._sightings >= pruning.min_sightings
        gone = len(splats) - int(kept.sum())
        if gone:
            self.select(kept)
        self._sightings.zero_()
        return gone

    def cap(self, max_splats: int) -> int:
        """Keep the ``max_splats`` most important ones, in their order; say how many were given up."""
        gone = len(self.optimiser.splats) - max_splats
        if gone <= 0:
            return 0
        best = torch.argsort(self.importance(), descending=True, stable=True)[:max_splats]
        self.select(best.sort().values)
        return gone

    @torch.no_grad()
    def grow(self, growth: GrowthLimits) -> int:
        """Clone small splats and split large ones where the pictures pull at them; say how many there are more.

        The steepest first where there is not room for all. Gradients are summed anew from here on.
        """
        splats = self.optimiser.splats.detach()
        gradient = self._gradients / self._pulls.clamp(min=1)
        room = max(0, growth.max_splats - len(splats))
        steep = torch.argsort(gradient, descending=True, stable=True)[:room]
        steep = steep[gradient[steep] > growth.min_gradient].sort().values
        large = splats.log_scales[steep].amax(-1) > math.log(growth.split_scale_m)
        halves = self._halves(splats.select(steep[large]))
        kept = torch.ones(len(splats), dtype=torch.bool, device=steep.device)
        kept[steep[large]] = False
        clones = splats.select(steep[~large])
        self.select(kept)
        self.add(clones)
        self.add(halves)
        self._gradients.zero_()
        self._pulls.zero_()
        return len(steep)

    def _halves(self, splats: Splats) -> Splats:
        """Give two for each, drawn from its own distribution and 1.6 times smaller."""
        twice = splats.concatenate(splats)
        drawn = torch.randn(twice.means.shape, generator=self._generator, device=twice.means.device)
        offsets = rotations(twice.quaternions) @ (drawn.to(twice.means.dtype) * twice.log_scales.exp())[..., None]
        changed = {"means": twice.means + offsets[..., 0], "log_scales": twice.log_scales - math.log(1.6)}
        return Splats(**{**twice.tensors(), **changed})


def _longer(figures: Tensor, count: int) -> Tensor:
    return torch.cat([figures, figures.new_zeros(count)])
