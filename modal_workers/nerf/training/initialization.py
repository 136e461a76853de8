"""Initialization of a fit: splats at the points of structure from motion, far behind them, and inside the masks."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.gaussians.densification import splats_from_points
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.training.fitting import TargetImage
from modal_workers.nerf.training.segmentation.object_segmentation import ObjectBounds
from modal_workers.nerf.training.visibility import seen_colours, seen_through, share_inside

Floats = NDArray[np.float64]

#: Distance of the backdrop splats, in scene units.
_BACKDROP: Final = 4.0
_BACKDROP_SPLATS: Final = 400
_FURTHEST: Final = 3.5
#: Distances computed at once.
_PAIRS: Final = 2**25
_OPACITY: Final = 0.3
_TABLE_CELLS: Final = 40
_TABLE_FLAT: Final = 8.0
#: Initial splats of the object are inside the masks of more than this share of the photos.
_WITHIN: Final = 0.9


def spacing(points: Tensor) -> Tensor:
    """Return the mean distance [N] of each of the points [N, 3] to its three nearest neighbours."""
    neighbours = min(4, len(points))
    if neighbours < 2:
        return points.new_full((len(points),), 0.01)
    found = [
        torch.cdist(chunk, points).topk(neighbours, largest=False).values[:, 1:].mean(1)
        for chunk in torch.split(points, max(1, _PAIRS // len(points)))
    ]
    return torch.cat(found).clamp(1e-4, 0.2)


def initial_scene_splats(
    points: Tensor, colours: Tensor, targets: list[TargetImage], bounds: ObjectBounds, *, at_most: int, seed: int
) -> Splats:
    """Return splats of the whole scene: points [N, 3] with colours [N, 3] in 0..1, table and backdrop."""
    kept = torch.nonzero(points.norm(dim=1) < _FURTHEST)[:, 0]
    if len(kept) > at_most:
        order = np.random.default_rng(seed).permutation(len(kept))[:at_most]
        kept = kept[torch.from_numpy(np.sort(order)).to(kept.device)]
    points, colours = points[kept], colours[kept]
    neighbours = splats_from_points(points, colours, spacing(points), _OPACITY)
    shell = torch.from_numpy(_BACKDROP * fibonacci(_BACKDROP_SPLATS)).to(points)
    summed, times = seen_colours(shell, targets)
    seen = times > 0
    size = _BACKDROP * math.sqrt(4 * math.pi / _BACKDROP_SPLATS) * 0.5
    backdrop = splats_from_points(shell[seen], (summed / times.clamp(min=1)[:, None])[seen], size, 0.9)
    return neighbours.concatenate(backdrop).concatenate(_table(points, targets, bounds))


def _table(like: Tensor, targets: list[TargetImage], bounds: ObjectBounds) -> Splats:
    """Return flat splats of the table near the object, where it has few points because the object hides it."""
    if bounds.table_z is None:
        return Splats.empty(like)
    side = (torch.arange(_TABLE_CELLS).to(like) + 0.5) / _TABLE_CELLS * 2 - 1
    x, y = (axis.reshape(-1) * bounds.radius for axis in torch.meshgrid(side, side, indexing="ij"))
    places = torch.stack([x, y, torch.full_like(x, bounds.table_z)], 1)
    places = places[places.norm(dim=1) < bounds.radius]
    summed, times = seen_colours(places, targets)
    seen = times > 0
    size = bounds.radius / _TABLE_CELLS
    splats = splats_from_points(places[seen], (summed / times.clamp(min=1)[:, None])[seen], size, 0.5)
    flat = splats.log_scales + splats.log_scales.new_tensor([0.0, 0.0, -math.log(_TABLE_FLAT)])
    return Splats(**{**splats.tensors(), "log_scales": flat})


def initial_object_splats(
    points: Tensor, targets: list[TargetImage], radius: float, *, at_most: int, seed: int
) -> Splats:
    """Return splats inside the masks: the points there, and the surface of the visual hull."""
    cells = max(16, min(64, round((4 * at_most) ** 0.5)))
    grid = torch.from_numpy(_grid(cells, radius)).to(points)
    inside = _inside_masks(grid, targets).reshape(cells, cells, cells)
    interior = -torch.nn.functional.max_pool3d(-inside[None].to(grid.dtype), 3, 1, 1)[0] > 0.5
    surface = grid[(inside & ~interior).reshape(-1)]
    if len(points):
        points = points[_inside_masks(points, targets) & (points.norm(dim=1) < radius)]
    positions = torch.cat([points, surface])
    if len(positions) > at_most:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(positions))[:at_most])
        positions = positions[torch.from_numpy(chosen).to(positions.device)]
    summed, times = seen_colours(positions, targets)
    return splats_from_points(positions, summed / times.clamp(min=1)[:, None], spacing(positions), _OPACITY)


def _inside_masks(points: Tensor, targets: list[TargetImage]) -> Tensor:
    within: Tensor = (share_inside(points, targets) > _WITHIN) & ~seen_through(points, targets)
    return within


def fibonacci(count: int) -> Floats:
    """Return ``count`` evenly distributed directions [N, 3]."""
    index = np.arange(count) + 0.5
    height, turn = 1 - 2 * index / count, math.pi * (1 + 5**0.5) * index
    level = np.sqrt(1 - height**2)
    return np.stack([level * np.cos(turn), level * np.sin(turn), height], 1)


def _grid(cells: int, radius: float) -> Floats:
    side = (np.arange(cells) + 0.5) / cells * 2 * radius - radius
    return np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
