"""Recordings of the generated table: frames of the wrist camera with joints and true poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.live_splat.kinematics import SO101_JOINTS
from modal_workers.live_splat.rigid_transform import inverse_poses
from simulators.arm.motion import ArmMotion
from simulators.arm.table_scene import TableScene
from simulators.arm.wrist_camera import camera_matrix, world_from_camera

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class RecordedFrame:
    """One frame and its ground truth. Joints are as the arm reports them, with offsets and noise."""

    seq: int
    time_s: float
    picture: Picture  # RGB [H, W, 3]
    positions_rad: tuple[float, ...]
    camera_from_world: Floats  # [4, 4], true


@dataclass(frozen=True)
class ArmRecording:
    """A scene, a motion and a camera; the reported joints may have errors."""

    scene: TableScene
    motion: ArmMotion
    width_px: int = 160
    height_px: int = 120
    rate_hz: float = 10.0
    #: True minus reported position of a joint, by name.
    offsets_rad: Mapping[str, float] = field(default_factory=dict)
    #: Noise of the reported positions, one standard deviation.
    noise_rad: float = 0.0

    @property
    def camera_matrix(self) -> Floats:
        """The camera's matrix [3, 3] in px."""
        return camera_matrix(self.width_px, self.height_px)

    def reported(self, time_s: float) -> tuple[float, ...]:
        """Return the reported joints (rad, as in ``SO101_JOINTS``): always the same at the same time."""
        true = self.motion.positions(time_s)
        wrong = np.array([self.offsets_rad.get(name, 0.0) for name in SO101_JOINTS])
        random = np.random.default_rng([self.motion.seed, round(time_s * 1e6)])
        return tuple((true - wrong + random.normal(0.0, 1.0, true.shape) * self.noise_rad).tolist())

    def frame(self, seq: int) -> RecordedFrame:
        """Render frame number ``seq``."""
        time_s = seq / self.rate_hz
        pose = inverse_poses(world_from_camera(self.motion.positions(time_s)))
        picture = self.scene.render(self.camera_matrix, pose, self.width_px, self.height_px)
        return RecordedFrame(seq, time_s, picture, self.reported(time_s), pose)

    def frames(self, count: int) -> Iterator[RecordedFrame]:
        """Render the first ``count`` frames."""
        return (self.frame(seq) for seq in range(count))


def jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Encode an image (RGB) as a JPEG file."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
