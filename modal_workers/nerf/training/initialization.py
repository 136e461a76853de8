"""The splats that a fit begins with: at the points of structure from motion, far behind them, and inside of masks."""

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

#: How far away what no point stands for is put, in scene units.
_BACKDROP: Final = 4.0
_BACKDROP_SPLATS: Final = 400
_FURTHEST: Final = 3.5
#: Distances that are worked on at once.
_PAIRS: Final = 2**25
_OPACITY: Final = 0.3
_TABLE_CELLS: Final = 40
_TABLE_FLAT: Final = 8.0
#: The object's seeds are inside of the masks in more photos than this.
_WITHIN: Final = 0.9


def spacing(points: Tensor) -> Tensor:
    """Give the mean distance [N] of each of points [N, 3] to the three nearest others."""
    near = min(4, len(points))
    if near < 2:
        return points.new_full((len(points),), 0.01)
    found = [
        torch.cdist(some, points).topk(near, largest=False).values[:, 1:].mean(1)
        for some in torch.split(points, max(1, _PAIRS // len(points)))
    ]
    return torch.cat(found).clamp(1e-4, 0.2)


def initial_scene_splats(
    points: Tensor, colours: Tensor, targets: list[TargetImage], bounds: ObjectBounds, *, at_most: int, seed: int
) -> Splats:
    """Seed everything that the photos show: points [N, 3] with colours [N, 3] in 0..1, table and backdrop."""
    kept = torch.nonzero(points.norm(dim=1) < _FURTHEST)[:, 0]
    if len(kept) > at_most:
        order = np.random.default_rng(seed).permutation(len(kept))[:at_most]
        kept = kept[torch.from_numpy(np.sort(order)).to(kept.device)]
    points, colours = points[kept], colours[kept]
    near = splats_from_points(points, colours, spacing(points), _OPACITY)
    shell = torch.from_numpy(_BACKDROP * fibonacci(_BACKDROP_SPLATS)).to(points)
    summed, times = seen_colours(shell, targets)
    seen = times > 0
    size = _BACKDROP * math.sqrt(4 * math.pi / _BACKDROP_SPLATS) * 0.5
    backdrop = splats_from_points(shell[seen], (summed / times.clamp(min=1)[:, None])[seen], size, 0.9)
    return near.concatenate(backdrop).concatenate(_table(points, targets, bounds))


def _table(like: Tensor, targets: list[TargetImage], bounds: ObjectBounds) -> Splats:
    """Seed the table near the object with flat splats: what it hides hardly has points, and lies there all the same."""
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
    """Seed the inside of the masks: the points that lie in them, and the skin of what all masks leave standing."""
    cells = max(16, min(64, round((4 * at_most) ** 0.5)))
    grid = torch.from_numpy(_grid(cells, radius)).to(points)
    inside = _within(grid, targets).reshape(cells, cells, cells)
    buried = -torch.nn.functional.max_pool3d(-inside[None].to(grid.dtype), 3, 1, 1)[0] > 0.5
    skin = grid[(inside & ~buried).reshape(-1)]
    if len(points):
        points = points[_within(points, targets) & (points.norm(dim=1) < radius)]
    every = torch.cat([points, skin])
    if len(every) > at_most:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:at_most])
        every = every[torch.from_numpy(chosen).to(every.device)]
    summed, times = seen_colours(every, targets)
    return splats_from_points(every, summed / times.clamp(min=1)[:, None], spacing(every), _OPACITY)


def _within(points: Tensor, targets: list[TargetImage]) -> Tensor:
    within: Tensor = (share_inside(points, targets) > _WITHIN) & ~seen_through(points, targets)
    return within


def fibonacci(count: int) -> Floats:
    """Give ``count`` even directions [N, 3]."""
    index = np.arange(count) + 0.5
    height, turn = 1 - 2 * index / count, math.pi * (1 + 5**0.5) * index
    level = np.sqrt(1 - height**2)
    return np.stack([level * np.cos(turn), level * np.sin(turn), height], 1)


def _grid(cells: int, radius: float) -> Floats:
    side = (np.arange(cells) + 0.5) / cells * 2 * radius - radius
    return np.stack(np.meshgrid(side, side, side, indexing="ij"), -1).reshape(-1, 3)
