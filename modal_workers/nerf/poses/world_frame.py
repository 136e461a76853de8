"""A sane frame for a scene whose own one is arbitrary: z up, what is looked at in the middle, cameras at distance 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDS: Final = 20
#: How much of the cameras' sideways directions must lie across the main one for their plane to be known.
_SPREAD: Final = 0.05


@dataclass(frozen=True)
class WorldFrame:
    """``new = scale * rotation @ (old - origin)``."""

    scale: float
    rotation: Floats
    origin: Floats

    def matrix(self) -> Floats:
        """Give ``new_from_old`` [3, 4], the scale in the rotation's part."""
        turned = self.scale * self.rotation
        return np.column_stack([turned, -turned @ self.origin])

    def moved(self, world_from_camera: Floats) -> Floats:
        """Give cameras' poses [..., 4, 4] in the new frame."""
        moved = world_from_camera.copy()
        moved[..., :3, :3] = self.rotation @ world_from_camera[..., :3, :3]
        moved[..., :3, 3] = (world_from_camera[..., :3, 3] - self.origin) @ (self.scale * self.rotation).T
        return moved


def find_world_frame(world_from_camera: Floats) -> WorldFrame:
    """Find the frame of a capture from its cameras' poses [N, 4, 4], OpenCV axes; the first is put over the x axis."""
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
    """Give the point [3] that is nearest to the optical axes, whichever few of them look elsewhere.

    Least squares, iteratively reweighted by the inverse distance (the sum of distances is what gets smallest).
    """
    across = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]
    weights = np.ones(len(centres))
    point: Floats = centres.mean(axis=0)
    spread = max(float(np.ptp(centres, axis=0).max()), 1e-12)
    for _ in range(_ROUNDS):
        left = (weights[:, None, None] * across).sum(axis=0) + 1e-9 * weights.sum() * np.eye(3)
        right = (weights[:, None] * (across @ centres[:, :, None])[:, :, 0]).sum(axis=0)
        point = np.linalg.solve(left, right + 1e-9 * weights.sum() * centres.mean(axis=0))
        off = np.linalg.norm((across @ (point - centres)[:, :, None])[:, :, 0], axis=1)
        weights = 1.0 / np.maximum(off, 1e-3 * spread)
    return point


def up_direction(right: Floats, down: Floats) -> Floats:
    """Give the direction [3] that was up, from the cameras' x and y axes [N, 3].

    Cameras are tilted but rarely rolled: their x axes lie in the horizontal plane, and up is what is square to all of
    them. Where they all point the same way, up is the mean of the cameras' own.
    """
    mean: Floats = -down.mean(axis=0)
    mean = mean / max(float(np.linalg.norm(mean)), 1e-12)
    weights = np.ones(len(right))
    up = mean
    for _ in range(_ROUNDS):
        values, vectors = np.linalg.eigh((weights[:, None] * right).T @ right / weights.sum())
        if values[1] < _SPREAD:
            return mean
        up = vectors[:, 0] * np.sign(vectors[:, 0] @ mean or 1.0)
        weights = 1.0 / np.maximum(np.abs(right @ up), 0.02)
    # Held in two ways, upright and across, the x axes span everything; then only the mean is left.
    return up if up @ mean > 0.2 else mean


def elevations_deg(centres: Floats) -> Floats:
    """Give how high each camera [N, 3] is seen from the origin."""
    heights: Floats = np.degrees(np.arcsin(centres[:, 2] / np.maximum(np.linalg.norm(centres, axis=1), 1e-12)))
    return heights
