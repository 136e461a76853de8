"""Visibility of the splats of the trained object in the photos of the training."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import Splats
from modal_workers.nerf.training.fitting import TargetImage
from modal_workers.nerf.training.visibility import pixels_of

#: Photos are rendered at this long side: visibility needs no detail.
_SIZE_PX: Final = 128
#: A splat this far behind the rendered surface is still visible: its own extent, and this share of the radius.
_BEHIND: Final = 0.04
_SOLID: Final = 0.5


@torch.no_grad()
def visible_in(splats: Splats, targets: list[TargetImage], radius: float) -> NDArray[np.bool_]:
    """Return which splat [N] is visible in which photo [V]: inside the image, and not behind the others there."""
    extent = 2 * splats.log_scales.exp().amax(1)
    columns = [_visible(splats, extent, target, _BEHIND * radius) for target in targets]
    return np.asarray(torch.stack(columns, 1).cpu().numpy(), np.bool_)


def _visible(splats: Splats, extent: Tensor, target: TargetImage, behind: float) -> Tensor:
    longest = max(target.camera.width_px, target.camera.height_px)
    small = target.scaled(min(1.0, _SIZE_PX / longest))
    rendered = rasterize(splats, small.camera, small.camera_from_world)
    row, column, within = pixels_of(splats.means, small)
    depth = splats.means @ small.camera_from_world[2, :3] + small.camera_from_world[2, 3]
    # On a surface that is seen at a grazing angle the depth changes within a pixel.
    around = torch.nn.functional.max_pool2d(rendered.depth[None, ..., 0], 3, 1, 1)[0]
    surface, alpha = around[row, column], rendered.alpha[row, column, 0]
    visible: Tensor = within & ((alpha < _SOLID) | (depth <= surface + behind + extent))
    return visible
