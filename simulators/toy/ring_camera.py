"""Camera of the toy photos: a pinhole without distortion, and its poses on rings around the toy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

#: Point that the camera looks at: about the middle of the toy, m.
TARGET_M: Final = (0.0, 0.0, 0.062)
FIELD_OF_VIEW_RAD: Final = float(np.deg2rad(40.0))  # across the longer side


@dataclass(frozen=True)
class PosedCamera:
    """A pinhole camera with a pose in the world (z up, m).

    ``world_from_camera`` [4, 4]: x to the right, y down, z ahead, as in OpenCV; ``focal_px`` in both directions; the
    principal point is the centre of the image, the corner of the first pixel at (0, 0), as in COLMAP.
    """

    width_px: int
    height_px: int
    focal_px: float
    world_from_camera: Floats

    @property
    def matrix(self) -> Floats:
        """The camera's matrix [3, 3] in px."""
        middle = (self.width_px / 2, self.height_px / 2)
        return np.array([[self.focal_px, 0, middle[0]], [0, self.focal_px, middle[1]], [0, 0, 1.0]])

    def to_json(self) -> dict[str, Any]:
        """Return the camera as JSON values."""
        return {
            "width_px": self.width_px,
            "height_px": self.height_px,
            "focal_px": self.focal_px,
            "world_from_camera": self.world_from_camera.tolist(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> PosedCamera:
        """Create a camera from what ``to_json`` returned."""
        pose = np.array(stored["world_from_camera"], np.float64)
        return cls(int(stored["width_px"]), int(stored["height_px"]), float(stored["focal_px"]), pose)


def focal_px(size_px: tuple[int, int], field_of_view_rad: float = FIELD_OF_VIEW_RAD) -> float:
    """Return the focal length for a field of view across the longer side of the image."""
    return float(max(size_px) / 2 / np.tan(field_of_view_rad / 2))


def look_at(eye_m: ArrayLike, target_m: ArrayLike, roll_rad: float = 0.0) -> Floats:
    """Return ``world_from_camera`` [4, 4] of a camera at one point that looks at another, world z up in its image."""
    eye = np.asarray(eye_m, np.float64)
    ahead = np.asarray(target_m, np.float64) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right) if np.linalg.norm(right) > 1e-6 else np.array([0.0, -1.0, 0.0])
    down = np.cross(ahead, right)
    cosine, sine = np.cos(roll_rad), np.sin(roll_rad)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([cosine * right + sine * down, cosine * down - sine * right, ahead], 1)
    pose[:3, 3] = eye
    return pose


def ring_poses(
    random: np.random.Generator,
    photos: int,
    elevations_deg: Sequence[float],
    *,
    radius_m: float,
    arc_deg: float = 360.0,
    start_deg: float = 0.0,
    jitter: float = 1.0,
) -> list[Floats]:
    """Return poses on rings around the toy in walking order, ring by ring, with the jitter of a handheld camera.

    ``jitter`` 1 is a steady hand: 8 mm along each axis, a degree of roll, 6 mm beside the target. Each ring starts half
    a step after the one below.
    """
    rings = len(elevations_deg)
    counts = [photos // rings + (ring < photos % rings) for ring in range(rings)]
    poses = []
    for ring, (elevation_deg, count) in enumerate(zip(elevations_deg, counts, strict=True)):
        for index in range(count):
            azimuth = np.deg2rad(start_deg + arc_deg * (index + 0.5 * (ring % 2)) / max(1, count))
            elevation = np.deg2rad(elevation_deg)
            offset = radius_m * np.array(
                [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
            )
            eye = TARGET_M + offset + jitter * random.normal(0, 0.008, 3)
            target = TARGET_M + jitter * random.normal(0, 0.006, 3)
            poses.append(look_at(eye, target, float(jitter * random.normal(0, np.deg2rad(1.0)))))
    return poses
