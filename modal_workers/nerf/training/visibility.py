"""Visibility of 3D points in the training photos: their colours, and whether they are inside the masks."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from modal_workers.nerf.training.fitting import TargetImage

#: A point through which this share of the photos sees the table lies in a gap of the object.
_SEEN_THROUGH: Final = 0.2


def pixels_of(points: Tensor, target: TargetImage) -> tuple[Tensor, Tensor, Tensor]:
    """Return row and column of each point in a photo, and whether it is inside the image."""
    camera, (u, v, ahead) = target.camera, target.project(points)
    column, row = u.floor().long(), v.floor().long()
    within = ahead & (column >= 0) & (row >= 0) & (column < camera.width_px) & (row < camera.height_px)
    return row.clamp(0, camera.height_px - 1), column.clamp(0, camera.width_px - 1), within


def seen_colours(points: Tensor, targets: list[TargetImage]) -> tuple[Tensor, Tensor]:
    """Return the summed colours [N, 3] in 0..1 of the photos at the points, and the number of photos [N]."""
    summed, times = torch.zeros_like(points), torch.zeros_like(points[:, 0])
    for target in targets:
        row, column, within = pixels_of(points, target)
        if target.mask is not None:
            within = within & (target.mask[row, column, 0] > 127)
        summed += target.image[row, column].to(points.dtype) / 255 * within[:, None]
        times += within
    return summed, times


def seen_through(points: Tensor, targets: list[TargetImage]) -> Tensor:
    """Return which points [N, 3] lie in a gap: many photos show only the table behind them."""
    through: Tensor = _share(points, [(target, target.ambiguous) for target in targets], 0) >= _SEEN_THROUGH
    return through


def share_inside(points: Tensor, targets: list[TargetImage], *, grown_px: int = 0) -> Tensor:
    """Return the share [N] of the photos that see a point with it inside their mask; 0 where none sees it."""
    return _share(points, [(target, target.mask) for target in targets], grown_px)


def _share(points: Tensor, layers: list[tuple[TargetImage, Tensor | None]], grown_px: int) -> Tensor:
    hits, times = torch.zeros_like(points[:, 0]), torch.zeros_like(points[:, 0])
    for target, layer in layers:
        if layer is None:
            continue
        mask = layer[None, ..., 0].to(points.dtype)
        if grown_px:
            mask = torch.nn.functional.max_pool2d(mask, 2 * grown_px + 1, 1, grown_px)
        row, column, within = pixels_of(points, target)
        hits += within & (mask[0, row, column] > 127)
        times += within
    return hits / times.clamp(min=1)
