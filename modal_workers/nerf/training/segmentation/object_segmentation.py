"""What of the scene is the object: splats by where they are, pixels by the splats they show and by their colours.

Without masks the object is what stands inside a sphere and above its table. A first fit tells that for splats; drawn
white on black with everything in front of everything, they tell it for pixels, up to a few at the outline. There the
colours decide (GrabCut).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import SH_0, Splats
from modal_workers.nerf.training.fitting import TargetImage

Bytes = NDArray[np.uint8]

#: How far above its table the object begins, in scene units.
_TABLE_GAP: Final = 0.004
#: Colours decide at most so near to the outline that the splats show, as a share of the picture's long side.
_BAND: Final = 0.014
_CUT_SIZE_PX: Final = 640
_CUT_ROUNDS: Final = 2
#: Where colours leave less than this of what the splats show, or add as much, they are not believed.
_AGREE: Final = 0.8
#: How much more than half the splats' word counts where colours contradict: a shadow is as dark as a wheel.
_TRUST: Final = 1.2
_THREADS: Final = 4


@dataclass(frozen=True)
class ObjectBounds:
    """Where the object may be, in the scene's frame."""

    radius: float
    table_z: float | None

    def holds(self, points: Tensor) -> Tensor:
        """Say which of points [N, 3] are the object's."""
        inside: Tensor = points.norm(dim=1) < self.radius
        return inside if self.table_z is None else inside & (points[:, 2] > self.table_z + _TABLE_GAP)


@torch.no_grad()
def coverage(splats: Splats, chosen: Tensor, target: TargetImage) -> NDArray[np.float32]:
    """Give how much of each pixel [H, W] shows the chosen splats [N], hidden by the others where those are nearer."""
    white = torch.where(chosen, 0.5 / SH_0, -0.5 / SH_0).to(splats.means.dtype)
    flat = replace(splats, colours=white[:, None].repeat(1, 3), sh_rest=None)
    drawn = rasterize(flat, target.camera, target.camera_from_world)
    return np.asarray(drawn.colour[..., 0].clamp(0, 1).cpu().numpy(), np.float32)


def object_masks(splats: Splats, bounds: ObjectBounds, targets: list[TargetImage], *, seed: int) -> list[Bytes]:
    """Give for every photo what of it is the object [H, W], 255 inside."""
    chosen = bounds.holds(splats.means)
    shown = [coverage(splats, chosen, target) for target in targets]
    pictures = [target.picture.cpu().numpy() for target in targets]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(partial(segment_photo, seed=seed), shown, pictures))


def segment_photo(shown: NDArray[np.float32], picture: Bytes, *, seed: int = 0) -> Bytes:
    """Give the object's mask [H, W] from how much of each pixel the splats show it, sharpened by colours [H, W, 3]."""
    height, width = shown.shape
    factor = min(1.0, _CUT_SIZE_PX / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(cv2.resize(shown, size, interpolation=cv2.INTER_AREA), np.float32)
    inside = _largest(small > 0.5)
    # OpenCV draws lots, in every thread from a generator of its own
    cv2.setRNGSeed(seed)
    sharpened = _by_colour(inside, np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8))
    both = np.count_nonzero(sharpened & inside)
    either = np.count_nonzero(sharpened | inside)
    if either and both > _AGREE * either:
        small = _settled(small, sharpened)
    mask = np.asarray((small * 255).round(), np.uint8)
    if factor < 1:
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return mask


def _settled(shown: NDArray[np.float32], sharpened: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Join what splats and colours say: where they disagree it is about a half, which the second fit settles.

    Away from the outline there is no doubt: splats that float about spill over other pixels.
    """
    joined = np.asarray(np.clip(_TRUST * shown + (2 - _TRUST) * sharpened - 0.5, 0.0, 1.0), np.float32)
    band = max(2, round(_BAND * max(shown.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    inside = _largest(shown > 0.5)
    joined[cv2.dilate((sharpened | inside).astype(np.uint8), kernel) == 0] = 0.0
    joined[cv2.erode((sharpened & inside).astype(np.uint8), kernel) > 0] = 1.0
    return joined


def _by_colour(inside: NDArray[np.bool_], picture: Bytes) -> NDArray[np.bool_]:
    """Move the outline of a mask to where the colours change."""
    if not inside.any():
        return inside
    band = max(2, round(_BAND * max(inside.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    solid = inside.astype(np.uint8)
    core, grown = cv2.erode(solid, kernel), cv2.dilate(solid, kernel)
    if not core.any() or grown.all():
        return inside
    labels = np.where(solid > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    labels[core > 0], labels[grown == 0] = cv2.GC_FGD, cv2.GC_BGD
    x, y, w, h = cv2.boundingRect(grown)
    margin = 3 * band
    rows, columns = slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin)
    window, colours = np.ascontiguousarray(labels[rows, columns]), np.ascontiguousarray(picture[rows, columns])
    behind, before = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(colours, window, (0, 0, 1, 1), behind, before, _CUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = np.zeros_like(inside)
    found[rows, columns] = (window == cv2.GC_FGD) | (window == cv2.GC_PR_FGD)
    return _largest(found)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest piece and those not much smaller; close holes that are specks."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.isin(labels, 1 + np.flatnonzero(areas > 0.1 * areas.max()))
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    specks = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < 0.002 * areas.max()) + 1
    return np.asarray(kept | np.isin(labels, specks))
