"""Where the object is, worked out from the cameras and the points alone: its middle, its size, what is up, its table.

The scene's frame: the point that the photos look at is the origin, z is up, x points towards the first camera, and the
cameras' median distance is 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError

Floats = NDArray[np.float64]

#: A point this near to the plane, in scene units, lies on the table.
_ON_PLANE: Final = 0.008
#: How far the table's normal may lean against what the cameras hold for up.
_LEAN: Final = np.cos(np.radians(35.0))
_DRAWS: Final = 600


@dataclass(frozen=True)
class Placement:
    """The scene's frame against that of structure from motion."""

    sfm_from_scene: Floats  # [4, 4] a similarity
    table_z: float | None  # height of the table that the object stands on, in the scene's frame; None without one
    elevations_deg: tuple[float, float]  # between which the photos were taken

    def points(self, sfm: Floats) -> Floats:
        """Move points [N, 3] into the scene's frame."""
        inverse = np.linalg.inv(self.sfm_from_scene)
        return np.asarray(sfm @ inverse[:3, :3].T + inverse[:3, 3], np.float64)

    def world_from_camera(self, sfm: Floats) -> Floats:
        """Move a pose [4, 4] into the scene's frame; it stays rigid."""
        unit = np.cbrt(np.linalg.det(self.sfm_from_scene[:3, :3]))
        pose = np.eye(4)
        pose[:3, :3] = self.sfm_from_scene[:3, :3].T / unit @ sfm[:3, :3]
        pose[:3, 3] = self.points(sfm[None, :3, 3])[0]
        return pose


def focus_point(poses: Floats) -> Floats:
    """Give the point nearest to all optical axes, by least squares, of poses [V, 4, 4].

    Raises:
        SaccadeError: INPUT_UNREADABLE, all cameras look the same way.
    """
    axes, centres = poses[:, :3, 2], poses[:, :3, 3]
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    summed = across.sum(0)
    if np.linalg.eigvalsh(summed)[0] < 1e-3 * len(poses):
        raise SaccadeError(
            ErrorCode.INPUT_UNREADABLE,
            "All photos look the same way, so the object's place cannot be told.",
            hint="Walk around the object while you take photos.",
        )
    return np.asarray(np.linalg.solve(summed, (across @ centres[:, :, None]).sum(0)[:, 0]))


def find_placement(poses: Floats, points: Floats, *, seed: int = 0) -> Placement:
    """Find the scene's frame from poses [V, 4, 4] (OpenCV axes) and points [N, 3] of structure from motion.

    Up is the table's normal where there is a table: cameras lean, and their mean is only roughly upright.

    Raises:
        SaccadeError: INPUT_UNREADABLE, all cameras look the same way.
    """
    focus = focus_point(poses)
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
    """Find the plane that most points lie on and hardly any under: normal [3] and height over the origin [1]."""
    if len(points) < 30:
        return None
    random = np.random.default_rng(seed)
    corners = points[random.integers(0, len(points), (_DRAWS, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1)
    normals[lengths > 0] /= lengths[lengths > 0, None]
    normals *= np.where(normals @ up < 0, -1.0, 1.0)[:, None]
    heights = (normals * corners[:, 0]).sum(1)
    away = points @ normals.T - heights
    on, under = (np.abs(away) < _ON_PLANE).sum(0), (away < -3 * _ON_PLANE).sum(0)
    good = (normals @ up > _LEAN) & (heights < 0.1) & (heights > -0.7) & (under < 0.15 * on + 5)
    if not good.any():
        return None
    best = int(np.argmax(np.where(good, on, -1)))
    if on[best] < max(20, 0.12 * len(points)):
        return None
    normal, height = normals[best], heights[best]
    for _ in range(3):
        lying = points[np.abs(points @ normal - height) < _ON_PLANE]
        middle = lying.mean(0)
        normal = np.linalg.svd(lying - middle, full_matrices=False)[2][2]
        normal *= 1.0 if normal @ up > 0 else -1.0
        height = float(normal @ middle)
    return np.append(normal, height)
