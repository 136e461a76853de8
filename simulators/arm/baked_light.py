"""Light of a static scene: sun and sky at each point, baked into the textures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.shapes import FARTHEST_M, Shape, Singles, face_grid

_SUN_TOWARDS: Final = np.array([-0.42, 0.50, 0.76])
_SUN: Final = np.array([1.00, 0.94, 0.84], np.float32) * 0.78
_SKY: Final = np.array([0.80, 0.88, 1.00], np.float32) * 0.50
_BOUNCE: Final = np.array([1.00, 0.84, 0.66], np.float32) * 0.14  # reflected by the table
_SUN_WIDTH: Final = 0.10
_SUN_RAYS: Final = 12
_SKY_RAYS: Final = 24
_GOLDEN_RAD: Final = float(np.pi * (3 - np.sqrt(5)))
_LIFT_M: Final = np.float32(5e-4)  # so that a surface does not shadow itself


def lit(albedo: NDArray[np.uint8], shape: Shape, face: int, solids: Sequence[Shape], grid: int) -> NDArray[np.uint8]:
    """Return a face's texture in the scene's light, which is computed on a ``grid`` x ``grid``."""
    points, normals = (values.reshape(-1, 3).astype(np.float32) for values in face_grid(shape, face, grid))
    light = _light(points, normals, solids).reshape(grid, grid, 3)
    height, width = albedo.shape[:2]
    smooth = np.asarray(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR))
    linear = (albedo.astype(np.float32) / 255) ** np.float32(2.2) * smooth
    return np.asarray(np.clip(linear, 0, 1) ** np.float32(1 / 2.2) * 255 + 0.5).astype(np.uint8)


def _light(points: Singles, normals: Singles, solids: Sequence[Shape]) -> Singles:
    """Return the light [N, 3] reflected at points, relative to white under an open bright sky."""
    total = np.zeros((len(points), 3), np.float32)
    start = points + normals * _LIFT_M
    for towards in _sun_rays():
        facing = np.maximum(normals @ towards, 0)
        total += (facing * _unoccluded(start, facing, towards, solids) / _SUN_RAYS)[:, None] * _SUN
    for towards in _sky_rays():
        facing = np.maximum(normals @ towards, 0)
        above = facing * _unoccluded(start, facing, towards, solids)
        below = np.maximum(-(normals @ towards), 0)  # the mirrored direction, in which the table is seen
        total += (above[:, None] * _SKY + below[:, None] * _BOUNCE) * np.float32(2 / _SKY_RAYS)
    return total


def _unoccluded(start: Singles, facing: Singles, towards: Singles, solids: Sequence[Shape]) -> Singles:
    """Return 1.0 for points with a free line in one direction, else 0.0; only points that face it matter."""
    seen = np.ones(len(start), np.float32)
    if not facing.any():
        return seen
    for solid in solids:
        corners = solid.corners().astype(np.float32)
        middle = corners.mean(0)
        off = middle - start
        along = off @ towards
        reach = np.linalg.norm(corners - middle, axis=1).max()
        passes = np.linalg.norm(off - along[:, None] * towards, axis=1) < reach
        close = np.flatnonzero(passes & (along > -reach) & (seen > 0))
        blocked = solid.depth(start[close], np.broadcast_to(towards, (len(close), 3))) < FARTHEST_M
        seen[close[blocked]] = 0.0
    return seen


def _sun_rays() -> Singles:
    towards = _SUN_TOWARDS / np.linalg.norm(_SUN_TOWARDS)
    aside = np.cross(towards, [0.0, 0.0, 1.0])
    aside /= np.linalg.norm(aside)
    up = np.cross(aside, towards)
    number = np.arange(_SUN_RAYS) + 0.5
    radius, turn = _SUN_WIDTH * np.sqrt(number / _SUN_RAYS), number * _GOLDEN_RAD
    rays = towards + (radius * np.cos(turn))[:, None] * aside + (radius * np.sin(turn))[:, None] * up
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True), np.float32)


def _sky_rays() -> Singles:
    """Return directions spread evenly over the upper hemisphere."""
    number = np.arange(_SKY_RAYS) + 0.5
    height, turn = number / _SKY_RAYS, number * _GOLDEN_RAD
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(turn), across * np.sin(turn), height], -1).astype(np.float32)
