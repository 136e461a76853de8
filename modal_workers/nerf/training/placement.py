"""Placement of the object from cameras and points: its centre, its scale, the up direction and its table.

The frame of the scene: the point that the photos look at is the origin, z is up, x points towards the first camera, and
the median distance of the cameras is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError

Floats = NDArray[np.float64]

#: A point this near to the plane, in scene units, is on the table.
_ON_PLANE: Final = 0.008
#: Cosine of the largest angle (35°) between the table's normal and the up direction of the cameras.
_LEAST_COSINE: Final = np.cos(np.radians(35.0))
_SAMPLES: Final = 600


@dataclass(frozen=True)
class Placement:
    """Frame of the scene relative to that of structure from motion."""

    sfm_from_scene: Floats  # [4, 4] a similarity
    table_z: float | None  # height of the table that the object stands on, in the scene's frame; None without one
    elevations_deg: tuple[float, float]  # between which the photos were taken

    def points(self, sfm: Floats) -> Floats:
        """Transform points [N, 3] into the frame of the scene."""
        inverse = np.linalg.inv(self.sfm_from_scene)
        return np.asarray(sfm @ inverse[:3, :3].T + inverse[:3, 3], np.float64)

    def world_from_camera(self, sfm: Floats) -> Floats:
        """Transform a pose [4, 4] into the frame of the scene; it stays rigid."""
        unit = np.cbrt(np.linalg.det(self.sfm_from_scene[:3, :3]))
        pose = np.eye(4)
        pose[:3, :3] = self.sfm_from_scene[:3, :3].T / unit @ sfm[:3, :3]
        pose[:3, 3] = self.points(sfm[None, :3, 3])[0]
        return pose


def focus_point(poses: Floats) -> Floats:
    """Return the point nearest to all optical axes of poses [V, 4, 4], by least squares.

    Raises:
        SaccadeError: INPUT_UNREADABLE, all cameras look the same way.
    """
    axes, centres = poses[:, :3, 2], poses[:, :3, 3]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    summed = across.sum(0)
    if np.linalg.eigvalsh(summed)[0] < 1e-3 * len(poses):
        raise SaccadeError(
            ErrorCode.INPUT_UNREADABLE,
            "All photos look the same way, so the position of the object cannot be computed.",
            hint="Walk around the object while you take photos.",
        )
    return np.asarray(np.linalg.solve(summed, (across @ centres[:, :, None]).sum(0)[:, 0]))


def find_placement(poses: Floats, points: Floats, *, centre: Floats | None = None, seed: int = 0) -> Placement:
    """Find the frame of the scene from poses [V, 4, 4] (OpenCV axes) and points [N, 3] of structure from motion.

    ``centre`` [3] is that of the object; by default the point that the cameras look at.

    Up is the normal of the table where there is one: cameras are tilted, and their mean is only roughly upright.

    Raises:
        SaccadeError: INPUT_UNREADABLE, all cameras look the same way.
    """
    focus = focus_point(poses) if centre is None else centre
    offsets = poses[:, :3, 3] - focus
    distance = float(np.median(np.linalg.norm(offsets, axis=1)))
    up = -poses[:, :3, 1].mean(0)
    up /= np.linalg.norm(up)
    near = (points - focus) / distance
    near = near[np.linalg.norm(near, axis=1) < 1.0]
    plane = _table(near, up, seed)
    if plane is not None:
        up = plane[:3]
    forward = offsets[0] - up * (offsets[0] @ up)
    if np.linalg.norm(forward) < 1e-3 * distance:  # the first photo looks straight down
        forward = np.cross(up, [0.0, 1.0, 0.0] if abs(up[0]) > 0.9 else [1.0, 0.0, 0.0])
    x = forward / np.linalg.norm(forward)
    similarity = np.eye(4)
    similarity[:3, :3] = distance * np.stack([x, np.cross(up, x), up], 1)
    similarity[:3, 3] = focus
    heights = np.degrees(np.arcsin(offsets @ up / np.linalg.norm(offsets, axis=1)))
    low, high = np.percentile(heights, [5, 95])
    return Placement(similarity, None if plane is None else float(plane[3]), (float(low), float(high)))


def _table(points: Floats, up: Floats, seed: int) -> Floats | None:
    """Find the plane with most points on it and hardly any below: normal [3] and height over the origin [1]."""
    if len(points) < 30:
        return None
    random = np.random.default_rng(seed)
    samples = points[random.integers(0, len(points), (_SAMPLES, 3))]
    normals = np.cross(samples[:, 1] - samples[:, 0], samples[:, 2] - samples[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals[lengths > 0] /= lengths[lengths > 0, None]
    normals *= np.where(normals @ up < 0, -1.0, 1.0)[:, None]
    heights = (normals * samples[:, 0]).sum(1)
    distances = points @ normals.T - heights
    on_plane, below = (np.abs(distances) < _ON_PLANE).sum(0), (distances < -3 * _ON_PLANE).sum(0)
    good = (normals @ up > _LEAST_COSINE) & (heights < 0.1) & (heights > -0.7) & (below < 0.15 * on_plane + 5)
    if not good.any():
        return None
    best = int(np.argmax(np.where(good, on_plane, -1)))
    if on_plane[best] < max(20, 0.12 * len(points)):
        return None
    normal, height = normals[best], heights[best]
    for _ in range(3):
        on_table = points[np.abs(points @ normal - height) < _ON_PLANE]
        middle = on_table.mean(0)
        normal = np.linalg.svd(on_table - middle, full_matrices=False)[2][2]
        normal *= 1.0 if normal @ up > 0 else -1.0
        height = float(normal @ middle)
    return np.append(normal, height)
