"""The camera that a homography of the floor implies: focal length, place and tilt, under square pixels.

A picture of a court that no camera in a hall can have taken is a wrong detection, however many lines it fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from modal_workers.badminton.court.dimensions import CORNERS_M
from modal_workers.badminton.court.homography import Floats

#: Focal lengths of cameras that film a court: from a phone's widest lens to a television camera, in picture widths.
FOCAL_WIDTHS: Final = (0.3, 5.0)
#: Heights above the floor: a phone on a bag, a camera under a hall's roof.
HEIGHT_M: Final = (0.8, 40.0)
#: Distance from the court's centre on the floor.
MAX_DISTANCE_M: Final = 90.0
#: How far axes of the court may be from perpendicular and equally long (cosine, relative length).
MAX_SHEAR: Final = 0.12
#: Below this share of the sum of its parts, a constraint of the focal length is noise.
_DETERMINED: Final = 1e-12


@dataclass(frozen=True, eq=False)
class CourtCamera:
    """Camera of a court with square pixels and its principal point at the picture's centre."""

    focal_px: float
    #: x and y on the court, z the height above the floor, in metres.
    position_m: Floats
    #: Cosine of the angle between the court's axes, and the difference of their lengths: 0 in a consistent view.
    shear: float
    #: 3x4: homogeneous (x, y, z) in metres to pixels.
    image_from_space: Floats

    def to_image(self, points_m: ArrayLike) -> Floats:
        """Return pixels for points (…, 3) in metres, z up from the floor; NaN behind the camera."""
        points = np.asarray(points_m, float)
        mapped = points @ self.image_from_space[:, :3].T + self.image_from_space[:, 3]
        depth = np.where(mapped[..., 2:] > 1e-9, mapped[..., 2:], np.nan)
        return np.asarray(mapped[..., :2] / depth)


@dataclass(frozen=True, eq=False)
class Cameras:
    """Cameras of many homographies at once; NaN where none exists."""

    focal_px: Floats
    position_m: Floats
    shear: Floats

    def plausible(self, width_px: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Return which of them may stand in a hall and film a court."""
        height = self.position_m[:, 2]
        distance = np.hypot(*(self.position_m[:, :2] - np.mean(np.asarray(CORNERS_M), axis=0)).T)
        with np.errstate(invalid="ignore"):
            return np.asarray(
                (self.focal_px >= FOCAL_WIDTHS[0] * width_px)
                & (self.focal_px <= FOCAL_WIDTHS[1] * width_px)
                & (height >= HEIGHT_M[0])
                & (height <= HEIGHT_M[1])
                & (distance <= MAX_DISTANCE_M)
                & (self.shear <= MAX_SHEAR)
            )


def cameras_of(homographies: Floats, size_px: tuple[int, int]) -> Cameras:
    """Return the cameras of homographies (n, 3, 3) whose third coordinate is positive in front of the camera.

    A mirrored court comes out as one whose camera is below the floor.
    """
    centred = homographies.copy()
    centre = ((size_px[0] - 1) / 2, (size_px[1] - 1) / 2)
    centred[:, 0] -= centre[0] * homographies[:, 2]
    centred[:, 1] -= centre[1] * homographies[:, 2]
    first, second = centred[:, :, 0], centred[:, :, 1]
    # Perpendicular and equally long axes: two equations a / f² + b = 0, solved by least squares for 1 / f².
    a = np.stack(
        [
            (first[:, :2] * second[:, :2]).sum(axis=1),
            0.5 * ((first[:, :2] ** 2).sum(axis=1) - (second[:, :2] ** 2).sum(axis=1)),
        ]
    )
    b = np.stack([first[:, 2] * second[:, 2], 0.5 * (first[:, 2] ** 2 - second[:, 2] ** 2)])
    scale = (first[:, :2] ** 2).sum(axis=1) + (second[:, :2] ** 2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        determined = (a**2).sum(axis=0) > _DETERMINED * scale**2
        inverse = np.where(determined, -(a * b).sum(axis=0) / (a**2).sum(axis=0), np.nan)
        focal = np.sqrt(np.where(inverse > 0, 1.0 / inverse, np.nan))
        rays = centred.copy()
        rays[:, :2] /= focal[:, None, None]
        lengths = np.linalg.norm(rays[:, :, :2], axis=1)
        cosine = np.abs((rays[:, :, 0] * rays[:, :, 1]).sum(axis=1)) / (lengths[:, 0] * lengths[:, 1])
        shear = np.maximum(cosine, np.abs(np.log(lengths[:, 0] / lengths[:, 1])))
        rays /= np.sqrt(lengths[:, 0] * lengths[:, 1])[:, None, None]
        # x to the right, y towards the camera and z up are a left-handed system.
        up = np.cross(rays[:, :, 1], rays[:, :, 0])
        axes = np.stack([rays[:, :, 0], rays[:, :, 1], up], axis=2)
        # Not orthogonal to the last digit: the inverse, and not the transpose, keeps the floor's points where they are.
        valid = np.isfinite(axes).all(axis=(1, 2)) & (np.abs(np.linalg.det(np.nan_to_num(axes))) > 1e-9)
        position = np.full((len(rays), 3), np.nan)
        position[valid] = -np.linalg.solve(axes[valid], rays[valid, :, 2, None])[..., 0]
    return Cameras(focal, position, shear)


def camera_of(image_from_court: Floats, size_px: tuple[int, int]) -> CourtCamera | None:
    """Return the camera of one homography; None where none with square pixels exists."""
    cameras = cameras_of(image_from_court[None], size_px)
    focal = float(cameras.focal_px[0])
    if not (np.isfinite(focal) and np.isfinite(cameras.position_m[0]).all()):
        return None
    centre = np.array([[1, 0, (size_px[0] - 1) / 2], [0, 1, (size_px[1] - 1) / 2], [0, 0, 1]])
    intrinsics = centre @ np.diag([focal, focal, 1.0])
    rays = np.linalg.inv(intrinsics) @ image_from_court
    length = np.sqrt(np.linalg.norm(rays[:, 0]) * np.linalg.norm(rays[:, 1]))
    up = intrinsics @ np.cross(rays[:, 1], rays[:, 0]) / length
    space = np.stack([image_from_court[:, 0], image_from_court[:, 1], up, image_from_court[:, 2]], axis=1)
    return CourtCamera(focal, cameras.position_m[0], float(cameras.shear[0]), space.astype(np.float64))
