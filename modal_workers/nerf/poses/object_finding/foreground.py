"""The points that may be on the object, and how the photos show them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.poses.colmap.model_files import SparseModel
from modal_workers.nerf.poses.object_finding.background_planes import BackgroundPlane

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Points further from the crossing belong to no object.
_REACH: Final = 1.0
#: Points lower above a table may be its own, less exact ones: they would widen an object with few points.
_STRAY: Final = 0.014
#: Points beyond this number are left out: distances between all pairs are computed.
_MOST_POINTS: Final = 1500
#: Half the width of the middle of a photo, as a share of its long side.
_MIDDLE: Final = 0.12


@dataclass(frozen=True)
class Foreground:
    """Points in front of all background planes and near the crossing."""

    #: Places in the model's points.
    places: Integers
    xyz: Floats
    #: [V, N] which photo observes which of them, and which has it in its middle.
    observed: Bools
    in_middle: Bools
    #: Depth of each observation in the middle of a photo, over that of the crossing.
    middle_depths: Floats
    #: Mean share of the photos that have a point inside the picture [N].
    framed: Floats


def foreground(model: SparseModel, planes: Sequence[BackgroundPlane], *, seed: int = 0) -> Foreground:
    """Return the points that may be on the object, and how the photos show them."""
    inside = np.linalg.norm(model.xyz, axis=1) < _REACH
    for plane in planes:
        inside &= plane.heights(model.xyz) > (max(plane.gap, _STRAY) if plane.level else plane.gap)
    places = np.flatnonzero(inside)
    if len(places) > _MOST_POINTS:
        places = np.sort(np.random.default_rng(seed).permutation(places)[:_MOST_POINTS])
    where = np.full(len(model.xyz), -1)
    where[places] = np.arange(len(places))
    photos, points = model.observations
    observed = np.zeros((len(model.images), len(places)), bool)
    mine = where[points] >= 0
    observed[photos[mine], where[points[mine]]] = True
    in_middle, framed, depths = np.zeros_like(observed), np.zeros(len(places)), []
    for number, image in enumerate(model.images):
        u, v, depth = project(image.world_from_camera, image.camera.matrix, model.xyz[places])
        width, height = image.camera.width_px, image.camera.height_px
        middle = np.hypot(u - width / 2, v - height / 2) < _MIDDLE * max(width, height)
        in_middle[number] = observed[number] & middle & (depth > 0)
        framed += (depth > 0) & (u > 0) & (v > 0) & (u < width) & (v < height)
        seen = model.xyz[points[photos == number]]
        u, v, depth = project(image.world_from_camera, image.camera.matrix, seen)
        near = np.hypot(u - width / 2, v - height / 2) < _MIDDLE * max(width, height)
        depths.append(depth[near] / max(float(np.linalg.norm(image.centre)), 1e-6))
    return Foreground(
        places, model.xyz[places], observed, in_middle, np.concatenate(depths), framed / max(1, len(model.images))
    )


def project(world_from_camera: Floats, matrix: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
    """Return column, row and depth of points [N, 3] in a photo without distortion."""
    local = (points - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
    depth = local[:, 2]
    safe = np.where(np.abs(depth) < 1e-9, 1e-9, depth)
    return (
        local[:, 0] / safe * matrix[0, 0] + matrix[0, 2],
        local[:, 1] / safe * matrix[1, 1] + matrix[1, 2],
        depth,
    )
