"""The virtual arm's wrist camera: lens, mount on the gripper, poses."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modal_workers.live_splat.kinematics import SO101

Floats = NDArray[np.float64]

FIELD_OF_VIEW_RAD: Final = float(np.deg2rad(70.0))  # horizontal
_ABOVE_M: Final = 0.055
_BEHIND_M: Final = 0.075  # from the tip of the jaws
_DOWN_RAD: Final = float(np.deg2rad(40.0))  # from the gripper's own direction


def _gripper_from_camera() -> Floats:
    # along the gripper first: image right is the frame's -y, image down its x; then tilted down to the tip
    along = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    cosine, sine = np.cos(_DOWN_RAD), np.sin(_DOWN_RAD)
    down = np.array([[1.0, 0.0, 0.0], [0.0, cosine, sine], [0.0, -sine, cosine]])
    pose = np.eye(4)
    pose[:3, :3] = along @ down
    pose[:3, 3] = (-_ABOVE_M, 0.0, -_BEHIND_M)
    return pose


#: Pose [4, 4] of the camera (x right, y down, z ahead; m) in ``gripper_frame_link``.
GRIPPER_FROM_CAMERA: Final = _gripper_from_camera()


def camera_matrix(width_px: int, height_px: int, field_of_view_rad: float = FIELD_OF_VIEW_RAD) -> Floats:
    """Return the pinhole's matrix [3, 3] in px, the centre of the first pixel at (0, 0), as in OpenCV."""
    focal = width_px / 2 / np.tan(field_of_view_rad / 2)
    return np.array([[focal, 0.0, (width_px - 1) / 2], [0.0, focal, (height_px - 1) / 2], [0.0, 0.0, 1.0]])


def world_from_camera(positions_rad: ArrayLike) -> Floats:
    """Return the camera's poses [..., 4, 4] at positions [..., 6] of the SO-101's joints."""
    return np.asarray(SO101.tips(positions_rad) @ GRIPPER_FROM_CAMERA)


def look_at(eye_m: ArrayLike, target_m: ArrayLike) -> Floats:
    """Return ``camera_from_world`` [4, 4] of a camera that looks at a point, world z up in its image."""
    eye = np.asarray(eye_m, np.float64)
    ahead = np.asarray(target_m, np.float64) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    if np.linalg.norm(right) < 1e-6:
        right = np.array([0.0, -1.0, 0.0])  # straight down: the robot's x points up in the image
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = -rotation @ eye
    return pose
