"""Camera poses of frames: forward kinematics x hand-eye, corrected by the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.camera import se3_exp
from modal_workers.gaussians.training import PoseCorrection
from modal_workers.live_splat.kinematics import SO101

Floats = NDArray[np.float64]

#: Step sizes of Adam; the offsets are shared by all frames, so many small steps add up.
_OFFSET_RAD = 6e-4
_FRAME_M, _FRAME_RAD = 1e-4, 3e-4
#: Decay of a frame's own correction at each step: the joints are a prior, and errors beyond the joints' offsets are
#: small.
_DECAY = 0.002


class ArmCameraPoses:
    """Poses of the camera on one arm, with the current offsets of its joints."""

    def __init__(self, gripper_from_camera: Sequence[float]) -> None:
        """Set the hand-eye transform from 16 numbers, row by row."""
        self._gripper_from_camera = np.array(gripper_from_camera, np.float64).reshape(4, 4)
        self.offsets_rad = np.zeros(len(SO101.joint_names))
        self._first, self._second, self._age = np.zeros_like(self.offsets_rad), np.zeros_like(self.offsets_rad), 0

    @staticmethod
    def in_order(names: Sequence[str], positions: Sequence[float]) -> Floats:
        """Return positions [6] in rad in the order of the arm's joints.

        Raises:
            SaccadeError: JOINTS_INVALID, when a joint that moves the camera is missing.
        """
        given = dict(zip(names, positions, strict=True))
        missing = [name for name in SO101.tip_joint_names if name not in given]
        if missing:
            raise SaccadeError(
                ErrorCode.JOINTS_INVALID, f"The frames came without positions of these joints: {', '.join(missing)}."
            )
        return np.array([given.get(name, 0.0) for name in SO101.joint_names])

    def world_from_camera(self, positions: Floats) -> Floats:
        """Return the pose [4, 4] for joints [6] in rad."""
        return np.asarray(SO101.tips(positions + self.offsets_rad) @ self._gripper_from_camera)

    def camera_from_world(self, positions: Floats) -> Tensor:
        """Return its inverse, for the rasteriser."""
        return torch.from_numpy(np.linalg.inv(self.world_from_camera(positions))).float()

    def tangents(self, positions: Floats) -> Floats:
        """Return the derivative [6, joints] of the camera's tangent (camera.se3_exp, left of ``camera_from_world``).

        It is the negated velocity of the camera in its own frame: what moves the camera one way moves the world in its
        frame the other way.
        """
        pose = self.world_from_camera(positions)
        tip = SO101.tips(positions + self.offsets_rad)
        moved, turned = np.split(SO101.jacobians(positions + self.offsets_rad), 2)
        arm = pose[:3, 3] - tip[:3, 3]
        moved = moved + np.cross(turned.T, arm).T
        return -np.concatenate([pose[:3, :3].T @ moved, pose[:3, :3].T @ turned])

    def step_offsets(self, gradient: Floats) -> None:
        """Move the offsets against the gradient [joints] of the loss: one step of Adam."""
        self._age += 1
        self._first = 0.9 * self._first + 0.1 * gradient
        self._second = 0.999 * self._second + 0.001 * gradient**2
        first, second = self._first / (1 - 0.9**self._age), self._second / (1 - 0.999**self._age)
        self.offsets_rad = self.offsets_rad - _OFFSET_RAD * first / (np.sqrt(second) + 1e-12)

    def state(self) -> dict[str, object]:
        """Return the state from which a later run resumes."""
        return {"offsets": self.offsets_rad, "first": self._first, "second": self._second, "age": self._age}

    def restore(self, state: dict[str, object]) -> None:
        """Restore it."""
        self.offsets_rad, self._first, self._second = (np.array(state[key]) for key in ("offsets", "first", "second"))
        self._age = int(str(state["age"]))


class FrameCorrection(PoseCorrection):
    """Pose error of one frame beyond its joints' offsets; a step on it also moves the offsets."""

    def __init__(self, poses: ArmCameraPoses, positions: Floats) -> None:
        """Start at the pose from the joints."""
        super().__init__(metres=_FRAME_M, radians=_FRAME_RAD)
        self._poses, self._positions = poses, positions

    def camera_from_world(self) -> Tensor:
        """Return the corrected pose."""
        return se3_exp(self.tangent) @ self._poses.camera_from_world(self._positions)

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Move the joints' offsets and the frame's own tangent against the gradient [6]."""
        self._poses.step_offsets(self._poses.tangents(self._positions).T @ gradient.double().cpu().numpy())
        super().step(gradient.to(self.tangent.device))
        self.tangent *= 1 - _DECAY
