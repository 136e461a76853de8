"""The camera in a car: mount, lens, exposure, recording, and projection of the world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CarCamera:
    """A mounted camera and its imperfections."""

    width_px: int = 640
    height_px: int = 360
    rate_hz: float = 30.0
    # mount
    height_m: float = 1.25
    sideways_m: float = 0.0  # to the left
    yaw_rad: float = 0.0
    pitch_rad: float = -0.05  # negative looks down
    roll_rad: float = 0.0
    field_of_view_rad: float = 1.15  # across the picture: zoom
    # lens and windscreen, after projection
    distortion: float = 0.0  # first radial coefficient; negative is a barrel
    keystone: float = 0.0  # a perspective distortion that no camera rotation causes
    shake_px: float = 0.4  # at 640 px across
    # exposure
    gain: float = 1.0
    gamma: float = 1.0
    noise: float = 2.0  # grey levels, one standard deviation
    occluder: Literal["none", "bonnet", "dashboard", "wiper"] = "none"
    # recording
    quality_crf: int = 20
    rate_jitter: float = 0.0  # variable frame rate: share of the frame interval
    dropped: float = 0.0  # share of frames missing
    rotation_deg: Literal[0, 90, 180, 270] = 0  # rotated in the file, with matching metadata
    first_timestamp_s: float = 0.0
    seed: int = 0

    @property
    def focal_px(self) -> float:
        """Focal length in pixels."""
        return float(self.width_px / 2 / np.tan(self.field_of_view_rad / 2))

    @property
    def intrinsic(self) -> Floats:
        """The 3x3 matrix of the pinhole."""
        focal = self.focal_px
        centre = ((self.width_px - 1) / 2, (self.height_px - 1) / 2)
        return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])

    def rotation(self, heading_rad: float) -> Floats:
        """Return the 3x3 rotation from the world (x east, y north, z up) to the camera (right, down, ahead)."""
        yaw = heading_rad + self.yaw_rad
        level = np.array(
            [[np.sin(yaw), -np.cos(yaw), 0.0], [0.0, 0.0, -1.0], [np.cos(yaw), np.sin(yaw), 0.0]],
        )
        cosine, sine = np.cos(-self.pitch_rad), np.sin(-self.pitch_rad)
        pitch = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])
        cosine, sine = np.cos(self.roll_rad), np.sin(self.roll_rad)
        roll = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        return np.asarray(roll @ pitch @ level)

    def horizon_ray(self) -> Floats:
        """Return the rays [H, W, 3] of all pixels in the car's level frame: right, down, ahead."""
        across, down = np.meshgrid(np.arange(self.width_px), np.arange(self.height_px))
        rays = np.stack([across, down, np.ones_like(across)], -1) @ np.linalg.inv(self.intrinsic).T
        upright = self.rotation(0.0) @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
        return np.asarray(rays @ upright)
