"""Motion of the virtual arm: a smooth, periodic sweep of its wrist camera around the objects on the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modal_workers.live_splat.kinematics import SO101
from modal_workers.live_splat.rigid_transform import cross, inverse_poses
from simulators.arm.table_scene import SCENE_CENTRE_M
from simulators.arm.wrist_camera import GRIPPER_FROM_CAMERA, camera_matrix, world_from_camera

Floats = NDArray[np.float64]

PERIOD_S: Final = 24.0
_KNOTS: Final = 64  # times in a period at which the joints are solved
_HARMONICS: Final = 8  # of the period: higher ones are cut, so the motion is smooth
_GRIPPER_RAD: Final = 0.35
_MARGIN_RAD: Final = 0.05  # to the joints' limits
_GAZE_M: Final = 0.6  # weight of one radian of viewing direction, as a distance
_CONVERGED_RAD: Final = 1e-4
_CLEARANCE_M: Final = 0.10  # of the jaws' tip above the table
_ATTEMPTS: Final = 40
_START_RAD: Final = (0.0, -0.6, 0.5, 0.9, 0.0)


@dataclass(frozen=True)
class Parallax:
    """Range of viewpoints of a motion around the scene's centre. In degrees, except the share."""

    azimuth_deg: float  # between the outermost directions, seen from above
    elevation_deg: tuple[float, float]
    distance_m: tuple[float, float]
    centre_in_picture: float  # share of the time


class ArmMotion:
    """Joint positions of the SO-101 at any time: one seeded sweep, repeated."""

    def __init__(self, seed: int = 0, period_s: float = PERIOD_S) -> None:
        """Plan the sweep: a few tenths of a second of work."""
        self.seed, self.period_s = seed, period_s
        random = np.random.default_rng([seed, 911])
        for _ in range(_ATTEMPTS):
            self._spectrum = _solve_sweep(random)
            if self._is_valid():
                return
        raise ValueError(f"seed {seed} gives no sweep that the arm can follow; use another one")

    def positions(self, time_s: ArrayLike) -> Floats:
        """Return the joint positions [..., 6] in rad at times [...] in s, columns as in ``SO101.joint_names``."""
        time = np.asarray(time_s, np.float64)
        turn = 2j * np.pi * np.arange(_HARMONICS + 1) / self.period_s
        arm = np.real(np.exp(time[..., None] * turn) @ self._spectrum)
        gripper = _GRIPPER_RAD + 0.15 * np.sin(4 * np.pi * time / self.period_s)
        return np.concatenate([arm, gripper[..., None]], axis=-1)

    def named(self, time_s: float) -> dict[str, float]:
        """Return the joint positions in rad at one time, by name."""
        return dict(zip(SO101.joint_names, self.positions(time_s).tolist(), strict=True))

    def camera_from_world(self, time_s: ArrayLike) -> Floats:
        """Return the wrist camera's true poses [..., 4, 4] at times [...]."""
        return inverse_poses(world_from_camera(self.positions(time_s)))

    def parallax(self, matrix: Floats, width_px: int, height_px: int) -> Parallax:
        """Return the range of viewpoints of one period around the scene's centre."""
        time = np.linspace(0, self.period_s, 480, endpoint=False)
        poses = self.camera_from_world(time)
        centre = poses[:, :3, :3] @ np.array(SCENE_CENTRE_M) + poses[:, :3, 3]
        pixels = centre @ matrix.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        inside = (pixels >= -0.5).all(1) & (pixels < np.array([width_px, height_px]) - 0.5).all(1) & (centre[:, 2] > 0)
        away = inverse_poses(poses)[:, :3, 3] - np.array(SCENE_CENTRE_M)
        distance = np.linalg.norm(away, axis=1)
        azimuth = np.rad2deg(np.arctan2(away[:, 1], -away[:, 0]))  # zero where the arm's base is
        elevation = np.rad2deg(np.arcsin(away[:, 2] / distance))
        return Parallax(
            azimuth_deg=float(np.ptp(azimuth)),
            elevation_deg=(float(elevation.min()), float(elevation.max())),
            distance_m=(float(distance.min()), float(distance.max())),
            centre_in_picture=float(inside.mean()),
        )

    def _is_valid(self) -> bool:
        """Return whether the arm can follow, stays above the objects, and keeps them in view."""
        positions = self.positions(np.linspace(0, self.period_s, 240, endpoint=False))
        lower, upper = _limits()
        within = bool(((positions[:, :5] > lower) & (positions[:, :5] < upper)).all())
        seen = self.parallax(camera_matrix(160, 120), 160, 120)
        clear = SO101.tips(positions)[:, 2, 3].min() > _CLEARANCE_M
        return within and clear and seen.centre_in_picture > 0.99 and seen.azimuth_deg > 70


def _solve_sweep(random: np.random.Generator) -> NDArray[np.complex128]:
    """Solve the joints at the knots of a new plan; return their first harmonics [H + 1, 5]."""
    eye, target = _plan_views(random, np.arange(_KNOTS) / _KNOTS)
    knots = np.empty((_KNOTS, 5))
    joints = np.array(_START_RAD)
    for knot in (*range(-_KNOTS // 8, 0), *range(_KNOTS)):  # approach the first knot as from the last one
        joints = _solve_joints(joints, eye[knot], target[knot])
        knots[knot] = joints
    spectrum = np.fft.rfft(knots, axis=0)[: _HARMONICS + 1] / _KNOTS
    spectrum[1:] *= 2
    return spectrum


def _plan_views(random: np.random.Generator, phase: Floats) -> tuple[Floats, Floats]:
    """Plan camera positions and targets [K, 3]: back and forth around the objects, rising and falling."""
    turn = 2 * np.pi * phase
    side = float(random.choice([-1.0, 1.0]))
    start = random.uniform(0, 2 * np.pi, 4)
    azimuth = side * np.deg2rad(random.uniform(38, 42)) * np.sin(turn)
    elevation = np.deg2rad(57 + 8 * np.sin(2 * turn + start[0]) + 4 * np.sin(3 * turn + start[1]))
    distance = 0.255 + 0.025 * np.sin(2 * turn + start[2])
    level = np.cos(elevation)
    away = np.stack([-level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], -1)
    centre = np.array(SCENE_CENTRE_M)
    wander = np.stack([0.02 * np.sin(3 * turn + start[3]), 0.02 * np.cos(2 * turn + start[1]), 0 * turn], -1)
    return centre + distance[:, None] * away, centre + wander


def _solve_joints(joints: Floats, eye_m: Floats, target_m: Floats) -> Floats:
    """Solve the five joints for a camera at ``eye_m`` that looks at ``target_m``: damped least squares, within limits.

    Five joints can do both or come close: a direction has two coordinates, as the roll about it is free.
    """
    lower, upper = _limits()
    for _ in range(8):
        every = np.append(joints, _GRIPPER_RAD)
        tip, jacobian = SO101.tips(every), SO101.jacobians(every)[:, :5]
        camera = tip @ GRIPPER_FROM_CAMERA
        lever = camera[:3, 3] - tip[:3, 3]
        moves = jacobian[:3] + cross(jacobian[3:].T, lever).T
        ahead = camera[:3, 2]
        wanted = (target_m - camera[:3, 3]) / np.linalg.norm(target_m - camera[:3, 3])
        turns = cross(jacobian[3:].T, ahead).T
        rows = np.vstack([moves, _GAZE_M * turns])
        error = np.concatenate([eye_m - camera[:3, 3], _GAZE_M * (wanted - ahead)])
        step = np.linalg.solve(rows.T @ rows + 1e-4 * np.eye(5), rows.T @ error)
        joints = np.clip(joints + np.clip(step, -0.3, 0.3), lower + _MARGIN_RAD, upper - _MARGIN_RAD)
        if np.abs(step).max() < _CONVERGED_RAD:
            break
    return joints


def _limits() -> tuple[Floats, Floats]:
    limits = np.array([SO101.limits_rad[name] for name in SO101.joint_names[:5]])
    return limits[:, 0], limits[:, 1]
