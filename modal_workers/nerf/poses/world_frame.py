"""World frame of a scene: z up, the object at the origin, cameras at a median distance of 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ITERATIONS: Final = 20
#: Second eigenvalue of the x axes that is needed to determine their plane.
_SPREAD: Final = 0.05


@dataclass(frozen=True)
class WorldFrame:
    """``new = scale * rotation @ (old - origin)``."""

    scale: float
    rotation: Floats
    origin: Floats

    def matrix(self) -> Floats:
        """Return ``new_from_old`` [3, 4], with the scale in the rotation part."""
        turned = self.scale * self.rotation
        return np.column_stack([turned, -turned @ self.origin])

    def moved(self, world_from_camera: Floats) -> Floats:
        """Return camera poses [..., 4, 4] in the new frame."""
        moved = world_from_camera.copy()
        moved[..., :3, :3] = self.rotation @ world_from_camera[..., :3, :3]
        moved[..., :3, 3] = (world_from_camera[..., :3, 3] - self.origin) @ (self.scale * self.rotation).T
        return moved


def find_world_frame(world_from_camera: Floats) -> WorldFrame:
    """Return the world frame of camera poses [N, 4, 4], OpenCV axes; the first camera is over the x axis."""
    centres, ahead = world_from_camera[:, :3, 3], world_from_camera[:, :3, 2]
    origin = focus(centres, ahead)
    up = up_direction(world_from_camera[:, :3, 0], world_from_camera[:, :3, 1])
    first = centres[0] - origin
    first = first - (first @ up) * up
    if np.linalg.norm(first) < 1e-9:  # straight from above
        first = np.eye(3)[int(np.argmin(np.abs(up)))]
        first = first - (first @ up) * up
    x = first / np.linalg.norm(first)
    rotation = np.array([x, np.cross(up, x), up])
    scale = 1.0 / max(float(np.median(np.linalg.norm(centres - origin, axis=1))), 1e-12)
    return WorldFrame(scale, rotation, origin)


def focus(centres: Floats, ahead: Floats) -> Floats:
    """Return the point [3] nearest to the optical axes, robust to a few cameras that look elsewhere.

    Least squares, iteratively reweighted by the inverse distance (which minimises the sum of distances).
    """
    across = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]
    weights = np.ones(len(centres))
    point: Floats = centres.mean(axis=0)
    spread = max(float(np.ptp(centres, axis=0).max()), 1e-12)
    for _ in range(_ITERATIONS):
        left = (weights[:, None, None] * across).sum(axis=0) + 1e-9 * weights.sum() * np.eye(3)
        right = (weights[:, None] * (across @ centres[:, :, None])[:, :, 0]).sum(axis=0)
        point = np.linalg.solve(left, right + 1e-9 * weights.sum() * centres.mean(axis=0))
        distances = np.linalg.norm((across @ (point - centres)[:, :, None])[:, :, 0], axis=1)
        weights = 1.0 / np.maximum(distances, 1e-3 * spread)
    return point


def up_direction(right: Floats, down: Floats) -> Floats:
    """Return the up direction [3], from the x and y axes [N, 3] of the cameras.

    Cameras are tilted but rarely rolled: their x axes lie in the horizontal plane, and up is perpendicular to all of
    them. Where they all point the same way, up is the mean of the up axes of the cameras.
    """
    mean: Floats = -down.mean(axis=0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    weights = np.ones(len(right))
    up = mean
    for _ in range(_ITERATIONS):
        values, vectors = np.linalg.eigh((weights[:, None] * right).T @ right / weights.sum())
        if values[1] < _SPREAD:
            return mean
        up = vectors[:, 0] * np.sign(vectors[:, 0] @ mean or 1.0)
        weights = 1.0 / np.maximum(np.abs(right @ up), 0.02)
    # With portrait and landscape photos the x axes span all directions; then only the mean is usable.
    return up if up @ mean > 0.2 else mean


def elevations_deg(centres: Floats) -> Floats:
    """Return the elevation of each camera [N, 3] as seen from the origin."""
    heights: Floats = np.degrees(np.arcsin(centres[:, 2] / np.maximum(np.linalg.norm(centres, axis=1), 1e-12)))
    return heights
