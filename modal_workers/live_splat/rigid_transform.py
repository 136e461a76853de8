"""Rigid transforms as 4x4 matrices: inverses, logarithms, spread of rotations."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def inverse_poses(poses: Floats) -> Floats:
    """Invert rigid transforms [..., 4, 4]."""
    turned = np.swapaxes(poses[..., :3, :3], -1, -2)
    result = np.zeros_like(poses)
    result[..., :3, :3] = turned
    result[..., :3, 3] = -np.einsum("...ij,...j->...i", turned, poses[..., :3, 3])
    result[..., 3, 3] = 1.0
    return result


def cross(first: Floats, second: Floats) -> Floats:
    """Return the cross products of vectors [..., 3]; faster than numpy's for small arrays."""
    ax, ay, az = first[..., 0], first[..., 1], first[..., 2]
    bx, by, bz = second[..., 0], second[..., 1], second[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def rotation_matrix(vector_rad: Floats) -> Floats:
    """Return the rotation [3, 3] about a vector [3] by its length in rad (Rodrigues)."""
    # In Python's numbers: called thousands of times by a calibration, where numpy's calls took most of the time.
    x, y, z = vector_rad.tolist()
    half = math.hypot(x, y, z) / 2
    # sin(a)/a and (1 - cos a)/a^2, written so that they are exact at zero
    by_turn = math.sin(2 * half) / (2 * half) if half else 1.0
    by_square = (math.sin(half) / half) ** 2 / 2 if half else 0.5
    xx, yy, zz = by_square * x * x, by_square * y * y, by_square * z * z
    xy, xz, yz = by_square * x * y, by_square * x * z, by_square * y * z
    x, y, z = by_turn * x, by_turn * y, by_turn * z
    return np.array([[1 - yy - zz, xy - z, xz + y], [xy + z, 1 - xx - zz, yz - x], [xz - y, yz + x, 1 - xx - yy]])


def pose_from_vector(change: Floats) -> Floats:
    """Return the rigid transform [4, 4] of a translation (m) and a rotation vector (rad): [6]."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_matrix(change[3:]), change[:3]
    return pose


def rotation_vectors(rotations: Floats) -> Floats:
    """Return axis times angle [..., 3] of rotations [..., 3, 3]; angles are in 0..pi."""
    trace = np.trace(rotations, axis1=-2, axis2=-1)
    # the unit quaternion (w, x, y, z) from its outer product, whose largest row is far from zero at every angle
    r = rotations
    rows = np.empty((*rotations.shape[:-2], 4, 4))
    rows[..., 0, 0] = 1 + trace
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        rows[..., 0, i + 1] = rows[..., i + 1, 0] = r[..., k, j] - r[..., j, k]
        rows[..., i + 1, i + 1] = 1 + r[..., i, i] - r[..., j, j] - r[..., k, k]
        rows[..., i + 1, j + 1] = rows[..., j + 1, i + 1] = r[..., j, i] + r[..., i, j]
    largest = np.argmax(np.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    quaternion = np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion /= np.linalg.norm(quaternion, axis=-1, keepdims=True)
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.linalg.norm(quaternion[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quaternion[..., :1])
    return np.asarray(np.where(sine > 1e-12, angle / np.maximum(sine, 1e-300), 2.0) * quaternion[..., 1:])


def rotation_spread_deg(vectors_rad: Floats) -> tuple[float, float]:
    """Return the root mean square of rotation vectors [N, 3] along their main axis and across it."""
    values = np.linalg.svd(vectors_rad, compute_uv=False) / np.sqrt(len(vectors_rad))
    return float(np.rad2deg(values[0])), float(np.rad2deg(values[1]))
