"""Poses of the arm's camera: their derivative by the joints, and joint offsets from images."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.camera import se3_exp
from modal_workers.live_splat.camera_poses import ArmCameraPoses, FrameCorrection
from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.spec import LiveSplatParams

HAND_EYE = LiveSplatParams().gripper_from_camera


def test_tangents_are_the_derivative_of_the_camera_pose() -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    random_ = np.random.default_rng(seed)
    poses = ArmCameraPoses(HAND_EYE)
    positions = random_.uniform(-1, 1, len(SO101.joint_names))
    tangents = poses.tangents(positions)
    before = np.linalg.inv(poses.world_from_camera(positions))
    for joint in range(len(SO101.joint_names)):
        step = np.zeros_like(positions)
        step[joint] = 1e-4
        after = np.linalg.inv(poses.world_from_camera(positions + step))
        said = se3_exp(torch.from_numpy(tangents[:, joint] * 1e-4)).numpy() @ before
        assert said == pytest.approx(after, abs=2e-8)


def test_offsets_are_found_from_the_gradients_of_many_poses() -> None:
    """Each gradient pulls a pose to where it truly is; what they have in common are the joints' offsets."""
    poses, true = ArmCameraPoses(HAND_EYE), ArmCameraPoses(HAND_EYE)
    offsets = np.deg2rad([0.0, 0.8, -0.6, 0.5, 0.4, 0.0])
    true.offsets_rad = offsets
    random_ = np.random.default_rng(3)
    views = random_.uniform(-1, 1, (20, len(offsets)))
    for step in range(2500):
        positions = views[step % len(views)]
        off = torch.from_numpy(np.linalg.inv(true.world_from_camera(positions)))
        tangent = torch.zeros(6, dtype=torch.float64, requires_grad=True)
        pose = se3_exp(tangent) @ torch.from_numpy(np.linalg.inv(poses.world_from_camera(positions)))
        ((pose - off) ** 2).sum().backward()
        assert tangent.grad is not None
        poses.step_offsets(poses.tangents(positions).T @ tangent.grad.numpy())
    assert np.abs(np.rad2deg(poses.offsets_rad - offsets))[1:5].max() < 0.15


def test_a_frame_correction_is_small_and_restored() -> None:
    poses = ArmCameraPoses(HAND_EYE)
    correction = FrameCorrection(poses, np.zeros(len(SO101.joint_names)))
    for _ in range(5):
        correction.step(torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
    assert correction.tangent[0] < 0
    assert poses.offsets_rad.any()
    again = FrameCorrection(poses, np.zeros(len(SO101.joint_names)))
    again.restore(correction.state())
    assert torch.equal(again.camera_from_world(), correction.camera_from_world())
    state = ArmCameraPoses(HAND_EYE)
    state.restore(poses.state())
    assert np.array_equal(state.offsets_rad, poses.offsets_rad)


def test_joints_are_ordered_by_name() -> None:
    given = dict(zip(SO101.joint_names, range(6), strict=True))
    turned = list(reversed(given.items()))
    assert ArmCameraPoses.in_order([name for name, _ in turned], [value for _, value in turned]).tolist() == [*range(6)]
    assert ArmCameraPoses.in_order(SO101.joint_names[:5], [1.0] * 5).tolist() == [1.0] * 5 + [0.0], (
        "no gripper, no matter"
    )
    with pytest.raises(SaccadeError) as refused:
        ArmCameraPoses.in_order(["shoulder_pan"], [0.0])
    assert refused.value.code is ErrorCode.JOINTS_INVALID
