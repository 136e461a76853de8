"""Object segmentation without given masks: by position of the splats, then per pixel by splats and colours.

The object is what stands inside a sphere and above its table. The splats of a first fit are selected that way and
rendered white on black with the others occluding them, which gives a mask up to a few pixels at the outline. There the
colours decide (GrabCut).
"""

from __future__ import annotations

import math
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
from modal_workers.nerf.found_object import BackgroundFigures, FoundObject, ObjectChoice
from modal_workers.nerf.params import CROP_RADIUS
from modal_workers.nerf.training.fitting import TargetImage

Bytes = NDArray[np.uint8]

#: Height above the table at which the object starts, in scene units.
_TABLE_GAP: Final = 0.004
#: The same beyond the box that was found, and before a wall.
_BOX_GAP: Final = 0.02
_WALL_GAP: Final = 0.012
_LEAST_MARGIN: Final = 1.15
#: The cameras are 1 away.
_MOST_RADIUS: Final = 0.9
#: Width of the band around the splats' outline in which colours decide, as a share of the long side.
_BAND: Final = 0.014
_GRABCUT_SIZE_PX: Final = 640
_GRABCUT_ITERATIONS: Final = 2
#: Minimum overlap of both masks; below it the colours are ignored.
_AGREE: Final = 0.8
#: Weight of the splats over the colours, 1 is equal: a shadow can be as dark as a wheel.
_SPLAT_WEIGHT: Final = 1.2
_THREADS: Final = 4


@dataclass(frozen=True)
class ObjectBox:
    """The box of the found object with its margin, and the walls behind it, for points in the frame of the scene."""

    chosen: ObjectChoice
    walls: tuple[BackgroundFigures, ...]
    poses_from_scene: NDArray[np.float64]  # [4, 4] a similarity

    def contains(self, points: Tensor) -> Tensor:
        """Return which points [N, 3] are inside, and in front of all walls."""
        moved = torch.from_numpy(self.poses_from_scene).to(points)
        placed = points @ moved[:3, :3].T + moved[:3, 3]
        offset = placed - placed.new_tensor(self.chosen.centre)
        cosine, sine = math.cos(self.chosen.yaw_rad), math.sin(self.chosen.yaw_rad)
        x, y, z = offset.unbind(1)
        turned = torch.stack([(cosine * x + sine * y).abs(), (cosine * y - sine * x).abs(), z], 1)
        inside = (turned < self.chosen.margin * 0.5 * placed.new_tensor(self.chosen.size) + _BOX_GAP).all(1)
        # Not downwards: what the object stands on may have no points.
        inside = inside & (z > -0.5 * self.chosen.size[2] - _TABLE_GAP)
        for wall in self.walls:
            inside = inside & (placed @ placed.new_tensor(wall.normal) > wall.height + min(wall.gap, _WALL_GAP))
        return inside


@dataclass(frozen=True)
class ObjectBounds:
    """Volume of the object, in the frame of the scene."""

    radius: float
    table_z: float | None
    #: The box that was found, and what is behind it; without one, the sphere alone.
    box: ObjectBox | None = None

    def contains(self, points: Tensor) -> Tensor:
        """Return which points [N, 3] are inside."""
        inside: Tensor = points.norm(dim=1) < self.radius
        if self.box is not None:
            inside = inside & self.box.contains(points)
        return inside if self.table_z is None else inside & (points[:, 2] > self.table_z + _TABLE_GAP)


def bounds_of(
    found: FoundObject | None, crop_radius: float | None, table_z: float | None, poses_from_scene: NDArray[np.float64]
) -> ObjectBounds:
    """Return the volume of the object that was found; a given radius of the sphere is kept."""
    if found is None or crop_radius is not None or found.chosen.name == "all_around":
        return ObjectBounds(CROP_RADIUS if crop_radius is None else crop_radius, table_z)
    unit = float(np.cbrt(np.linalg.det(poses_from_scene[:3, :3])))
    walls = tuple(plane for plane in found.background if not plane.level)
    # A box may grow into empty space, but no further than a sphere would without it.
    radius = found.chosen.radius / unit
    radius = max(_LEAST_MARGIN * radius, min(CROP_RADIUS, found.chosen.margin * radius))
    return ObjectBounds(min(radius, _MOST_RADIUS), table_z, ObjectBox(found.chosen, walls, poses_from_scene))


@torch.no_grad()
def coverage(splats: Splats, chosen: Tensor, target: TargetImage) -> NDArray[np.float32]:
    """Return how much of each pixel [H, W] shows the chosen splats [N], occluded by the others."""
    white = torch.where(chosen, 0.5 / SH_0, -0.5 / SH_0).to(splats.means.dtype)
    flat = replace(splats, colours=white[:, None].repeat(1, 3), sh_rest=None)
    rendered = rasterize(flat, target.camera, target.camera_from_world)
    return np.asarray(rendered.colour[..., 0].clamp(0, 1).cpu().numpy(), np.float32)


def object_masks(splats: Splats, bounds: ObjectBounds, targets: list[TargetImage], *, seed: int) -> list[Bytes]:
    """Return the object mask [H, W] of every photo, 255 inside."""
    chosen = bounds.contains(splats.means)
    coverage_map = [coverage(splats, chosen, target) for target in targets]
    images = [target.image.cpu().numpy() for target in targets]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(partial(segment_photo, seed=seed), coverage_map, images))


def segment_photo(coverage_map: NDArray[np.float32], image: Bytes, *, seed: int = 0) -> Bytes:
    """Return the object mask [H, W] from the splat coverage [H, W], refined by the colours [H, W, 3]."""
    height, width = coverage_map.shape
    factor = min(1.0, _GRABCUT_SIZE_PX / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = np.asarray(cv2.resize(coverage_map, size, interpolation=cv2.INTER_AREA), np.float32)
    inside = _largest_components(small > 0.5)
    # GrabCut is randomised; OpenCV has a generator per thread.
    cv2.setRNGSeed(seed)
    sharpened = _refine_by_colour(inside, np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8))
    both = np.count_nonzero(sharpened & inside)
    either = np.count_nonzero(sharpened | inside)
    if either and both > _AGREE * either:
        small = _combine(small, sharpened)
    mask = np.asarray((small * 255).round(), np.uint8)
    if factor < 1:
        mask = np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    return mask


def _combine(coverage_map: NDArray[np.float32], sharpened: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Combine splats and colours: where they disagree the mask is about a half, which the second fit resolves.

    Away from the outline there is no doubt: floating splats cover other pixels.
    """
    combined = np.asarray(
        np.clip(_SPLAT_WEIGHT * coverage_map + (2 - _SPLAT_WEIGHT) * sharpened - 0.5, 0.0, 1.0), np.float32
    )
    band = max(2, round(_BAND * max(coverage_map.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    inside = _largest_components(coverage_map > 0.5)
    combined[cv2.dilate((sharpened | inside).astype(np.uint8), kernel) == 0] = 0.0
    combined[cv2.erode((sharpened & inside).astype(np.uint8), kernel) > 0] = 1.0
    return combined


def _refine_by_colour(inside: NDArray[np.bool_], image: Bytes) -> NDArray[np.bool_]:
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
    window, colours = np.ascontiguousarray(labels[rows, columns]), np.ascontiguousarray(image[rows, columns])
    background_model, foreground_model = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(
        colours, window, (0, 0, 1, 1), background_model, foreground_model, _GRABCUT_ITERATIONS, cv2.GC_INIT_WITH_MASK
    )
    found = np.zeros_like(inside)
    found[rows, columns] = (window == cv2.GC_FGD) | (window == cv2.GC_PR_FGD)
    return _largest_components(found)


def _largest_components(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the largest component and those not much smaller; fill small holes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 1:
        return mask
    areas = stats[1:, cv2.CC_STAT_AREA]
    kept = np.isin(labels, 1 + np.flatnonzero(areas > 0.1 * areas.max()))
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~kept).astype(np.uint8), connectivity=4)
    holes = np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] < 0.002 * areas.max()) + 1
    return np.asarray(kept | np.isin(labels, holes))
