"""Reference kinematics of the SO-101 for tests: poses of all links, joints beyond their limits, the arm as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modal_workers.live_splat.kinematics import SO101

Floats = NDArray[np.float64]


def link_poses(positions: Mapping[str, float]) -> dict[str, Floats]:
    """Return the pose [4, 4] of every link in the world, from all joints' positions in rad."""
    poses: dict[str, Floats] = {SO101.root: np.eye(4)}
    for joint in SO101.joints:
        step = joint.turned(np.asarray(positions[joint.name], float)) if joint.movable else joint.parent_from_zero
        poses[joint.child] = poses[joint.parent] @ step
    return poses


def joints_beyond_limits(names: Sequence[str], positions: Sequence[float]) -> list[tuple[str, float, float, float]]:
    """List name, position, lower and upper limit of the joints beyond their limits; ignore unknown joints."""
    limits = SO101.limits_rad
    return [
        (name, value, *limits[name])
        for name, value in zip(names, positions, strict=True)
        if name in limits and not limits[name][0] <= value <= limits[name][1]
    ]


def chain_description() -> list[dict[str, Any]]:
    """Return the joints as the session page reads them (JSON): origins in m and rad, limits null where fixed."""
    return [
        {
            "name": joint.name,
            "parent": joint.parent,
            "child": joint.child,
            "xyz_m": list(joint.origin_xyz_m),
            "rpy_rad": list(joint.origin_rpy_rad),
            "axis": None if joint.axis is None else list(joint.axis),
            "limits_rad": [joint.lower_rad, joint.upper_rad] if np.isfinite(joint.upper_rad) else None,
        }
        for joint in SO101.joints
    ]
