"""Adaptive density control: which splats are added and removed, so that a bounded number explains the images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.render_result import RenderResult
from modal_workers.gaussians.splats import SH_0, Splats, rotations
from modal_workers.gaussians.training import Optimiser


def splats_from_points(points: Tensor, colours: Tensor, scales_m: Tensor | float, opacity: Tensor | float) -> Splats:
    """Return isotropic splats at points [N, 3] m with colours [N, 3] in 0..1; one size and opacity, or [N] each."""
    count = len(points)
    logs = torch.as_tensor(scales_m, dtype=points.dtype, device=points.device).expand(count).log()
    logits = torch.as_tensor(opacity, dtype=points.dtype, device=points.device).expand(count).logit()
    upright = points.new_tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1)
    return Splats(
        points.clone(), logs[:, None].repeat(1, 3), upright, logits.clone(), (colours.to(points.dtype) - 0.5) / SH_0
    )


@dataclass(frozen=True)
class PruningLimits:
    """Limits below or above which splats are removed; None disables a limit."""

    min_opacity: float = 0.005
    max_scale_m: float | None = None  # of the longest axis
    min_sightings: int | None = None  # number of images that see it since the last pruning


@dataclass(frozen=True)
class GrowthLimits:
    """Limits above which splats are cloned or split.

    Source: Kerbl et al. 2023, section 5.2, with the limits of gsplat's DefaultStrategy.
    """

    min_gradient: float = 2e-4  # of the loss by the image position, in half image sides
    split_scale_m: float = 0.01  # larger ones are split, smaller ones are cloned
    max_splats: int = 1_000_000


class Densifier:
    """Adds and removes the splats of an optimiser by statistics of the training; the statistics follow the splats.

    Seeded: the same seed and the same steps give the same splats.
    """

    def __init__(self, optimiser: Optimiser, *, seed: int = 0) -> None:
        self.optimiser = optimiser
        device = optimiser.splats.means.device
        self._generator = torch.Generator(device=device).manual_seed(seed)
        count = len(optimiser.splats)
        self._gradients = torch.zeros(count, device=device)  # summed since the last growth
        self._gradient_steps = torch.zeros(count, dtype=torch.int64, device=device)  # steps summed over
        self._sightings = torch.zeros(count, dtype=torch.int64, device=device)  # since the last pruning
        self._areas_px2 = torch.zeros(count, device=device)  # 0 until it is seen

    def state(self) -> dict[str, Any]:
        """Return the state from which a later run resumes, the optimiser's included."""
        return {
            "optimiser": self.optimiser.state(),
            "generator": self._generator.get_state(),
            "gradients": self._gradients,
            "pulls": self._gradient_steps,
            "sightings": self._sightings,
            "areas_px2": self._areas_px2,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.optimiser.restore(state["optimiser"])
        self._generator.set_state(state["generator"].cpu())
        self._gradients, self._gradient_steps = state["gradients"], state["pulls"]
        self._sightings, self._areas_px2 = state["sightings"], state["areas_px2"]

    @torch.no_grad()
    def watch(self, rendered: RenderResult, camera: Camera) -> None:
        """Record the statistics of a step, before splats are added or removed."""
        seen = rendered.radii_px > 0
        self._sightings += seen
        # the box of a splat spans at most 3.33 of its standard deviations, so this is about its area
        areas = rendered.radii_px.square().to(self._areas_px2.dtype)
        before = torch.where(self._areas_px2 > 0, self._areas_px2, areas)
        # a splat out of sight keeps its importance
        self._areas_px2 = torch.where(seen, before.lerp(areas, 0.05), self._areas_px2)
        gradient = rendered.means2d_gradient()
        if gradient is not None:
            half = gradient.new_tensor([camera.width_px / 2, camera.height_px / 2])
            self._gradients += (gradient * half).norm(dim=-1) * seen
            self._gradient_steps += seen

    def add(self, splats: Splats) -> None:
        """Add splats; they count as not seen."""
        self.optimiser.add(splats)
        self._gradients = _extended(self._gradients, len(splats))
        self._gradient_steps = _extended(self._gradient_steps, len(splats))
        self._sightings = _extended(self._sightings, len(splats))
        self._areas_px2 = _extended(self._areas_px2, len(splats))

    def select(self, chosen: Tensor) -> None:
        """Keep the splats of a mask [N] or of indices [M]."""
        self.optimiser.select(chosen)
        self._gradients, self._gradient_steps = self._gradients[chosen], self._gradient_steps[chosen]
        self._sightings, self._areas_px2 = self._sightings[chosen], self._areas_px2[chosen]

    @torch.no_grad()
    def importance(self) -> Tensor:
        """Return opacity x area in the image [N]; unseen splats get the smallest area seen."""
        seen = self._areas_px2 > 0
        least = self._areas_px2[seen].min() if bool(seen.any()) else self._areas_px2.new_ones(())
        areas = torch.where(seen, self._areas_px2, least)
        return self.optimiser.splats.logit_opacities.sigmoid() * areas

    @torch.no_grad()
    def prune(self, pruning: PruningLimits) -> int:
        """Remove splats beyond the limits and those that are not finite; return how many."""
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
        """Keep the ``max_splats`` most important splats, in order; return how many were removed."""
        gone = len(self.optimiser.splats) - max_splats
        if gone <= 0:
            return 0
        best = torch.argsort(self.importance(), descending=True, stable=True)[:max_splats]
        self.select(best.sort().values)
        return gone

    @torch.no_grad()
    def grow(self, growth: GrowthLimits) -> int:
        """Clone small splats and split large ones with a steep position gradient; return how many were added.

        The steepest come first if not all fit. The gradient sums restart at zero.
        """
        splats = self.optimiser.splats.detach()
        gradient = self._gradients / self._gradient_steps.clamp(min=1)
        room = max(0, growth.max_splats - len(splats))
        steep = torch.argsort(gradient, descending=True, stable=True)[:room]
        steep = steep[gradient[steep] > growth.min_gradient].sort().values
        large = splats.log_scales[steep].amax(-1) > math.log(growth.split_scale_m)
        halves = self._split(splats.select(steep[large]))
        kept = torch.ones(len(splats), dtype=torch.bool, device=steep.device)
        kept[steep[large]] = False
        clones = splats.select(steep[~large])
        self.select(kept)
        self.add(clones)
        self.add(halves)
        self._gradients.zero_()
        self._gradient_steps.zero_()
        return len(steep)

    def _split(self, splats: Splats) -> Splats:
        """Return two splats for each, drawn from its own distribution and 1.6 times smaller."""
        twice = splats.concatenate(splats)
        drawn = torch.randn(twice.means.shape, generator=self._generator, device=twice.means.device)
        offsets = rotations(twice.quaternions) @ (drawn.to(twice.means.dtype) * twice.log_scales.exp())[..., None]
        changed = {"means": twice.means + offsets[..., 0], "log_scales": twice.log_scales - math.log(1.6)}
        return Splats(**{**twice.tensors(), **changed})


def _extended(values: Tensor, count: int) -> Tensor:
    return torch.cat([values, values.new_zeros(count)])
