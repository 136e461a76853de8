"""Films the invented table with the wrist camera: pictures with the joints and the true pose of their moment."""

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
    """One picture and what was true when it was taken. Joints as the arm says they are, offsets and noise included."""

    seq: int
    time_s: float
    picture: Picture  # RGB [H, W, 3]
    positions_rad: tuple[float, ...]
    camera_from_world: Floats  # [4, 4], true


@dataclass(frozen=True)
class ArmRecording:
    """A scene, a motion and a camera; the arm may be wrong about where its joints stand."""

    scene: TableScene
    motion: ArmMotion
    width_px: int = 160
    height_px: int = 120
    rate_hz: float = 10.0
    #: By how much the arm's report of a joint is too small, by name.
    offsets_rad: Mapping[str, float] = field(default_factory=dict)
    #: Noise of the arm's report, one standard deviation.
    noise_rad: float = 0.0

    @property
    def camera_matrix(self) -> Floats:
        """The camera's matrix [3, 3] in px."""
        return camera_matrix(self.width_px, self.height_px)

    def reported(self, time_s: float) -> tuple[float, ...]:
        """Give where the arm says its joints stand (rad, as in ``SO101_JOINTS``): always the same at the same time."""
        true = self.motion.positions(time_s)
        wrong = np.array([self.offsets_rad.get(name, 0.0) for name in SO101_JOINTS])
        random = np.random.default_rng([self.motion.seed, round(time_s * 1e6)])
        return tuple((true - wrong + random.normal(0.0, 1.0, true.shape) * self.noise_rad).tolist())

    def frame(self, seq: int) -> RecordedFrame:
        """Take picture number ``seq``."""
        time_s = seq / self.rate_hz
        pose = inverse_poses(world_from_camera(self.motion.positions(time_s)))
        picture = self.scene.render(self.camera_matrix, pose, self.width_px, self.height_px)
        return RecordedFrame(seq, time_s, picture, self.reported(time_s), pose)

    def frames(self, count: int) -> Iterator[RecordedFrame]:
        """Take the first ``count`` pictures."""
        return (self.frame(seq) for seq in range(count))


def jpeg(picture: Picture, quality: int = 90) -> bytes:
    """Give a picture (RGB) as a JPEG file."""
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
