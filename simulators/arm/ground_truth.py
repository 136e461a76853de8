"""Ground truth to score a reconstruction: true images from viewpoints that no frame was taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.live_splat.rigid_transform import inverse_poses
from simulators.arm.motion import ArmMotion
from simulators.arm.table_scene import SCENE_CENTRE_M, TableScene
from simulators.arm.wrist_camera import camera_matrix, look_at

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

#: Distance of a viewpoint from the camera's path: no training view is there, but all of the view was seen.
_ASIDE_M: Final = 0.015


@dataclass(frozen=True)
class ArmGroundTruth:
    """Viewpoints and their true images. Poses [N, 4, 4] are ``camera_from_world``."""

    camera_matrix: Floats
    width_px: int
    height_px: int
    camera_from_world: Floats
    pictures: tuple[Picture, ...]

    def psnr_db(self, rendered: Sequence[Picture]) -> float:
        """Return the mean peak signal-to-noise ratio in dB of images rendered at the viewpoints, in their order.

        Raises:
            ValueError: their number or size is not that of the viewpoints.
        """
        if len(rendered) != len(self.pictures):
            raise ValueError(f"{len(rendered)} pictures for {len(self.pictures)} viewpoints")
        return float(np.mean([psnr_db(image, true) for image, true in zip(rendered, self.pictures, strict=True)]))


def sample_ground_truth(
    scene: TableScene, motion: ArmMotion, width_px: int = 160, height_px: int = 120, count: int = 8
) -> ArmGroundTruth:
    """Choose viewpoints beside the motion's path that look at the scene's centre, and render them."""
    matrix = camera_matrix(width_px, height_px)
    random = np.random.default_rng([scene.seed, motion.seed, 31])
    times = (np.arange(count) + random.uniform(0.2, 0.8, count)) / count * motion.period_s
    aside = random.standard_normal((count, 3))
    eyes = inverse_poses(motion.camera_from_world(times))[:, :3, 3]
    eyes = eyes + aside / np.linalg.norm(aside, axis=1, keepdims=True) * _ASIDE_M
    targets = np.array(SCENE_CENTRE_M) + random.uniform(-0.02, 0.02, (count, 3)) * [1, 1, 0]
    poses = np.stack([look_at(eye, target) for eye, target in zip(eyes, targets, strict=True)])
    pictures = tuple(scene.render(matrix, pose, width_px, height_px) for pose in poses)
    return ArmGroundTruth(matrix, width_px, height_px, poses, pictures)


def psnr_db(picture: Picture, true: Picture) -> float:
    """Return the peak signal-to-noise ratio in dB of two images of one size; infinite if they are equal.

    Raises:
        ValueError: their sizes differ, or they are not uint8.
    """
    if picture.shape != true.shape or picture.dtype != np.uint8 or true.dtype != np.uint8:
        raise ValueError(f"{picture.dtype} {picture.shape} cannot be compared with {true.dtype} {true.shape}")
    error = float(np.mean((picture.astype(np.float64) - true) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))
