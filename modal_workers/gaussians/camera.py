"""The pinhole camera and rigid motions, in the OpenCV convention: x right, y down, z forward, metres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion; the centre of pixel (column i, row j) is at (i + 0.5, j + 0.5)."""

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1 or not (self.fx_px > 0 and self.fy_px > 0):
            raise ValueError(f"A camera needs at least 1 x 1 pixel and focal lengths above 0, not {self}.")

    def scaled(self, factor: float) -> Camera:
        """Return the same view with ``factor`` times as many pixels per side, rounded to whole pixels."""
        width_px, height_px = max(1, round(self.width_px * factor)), max(1, round(self.height_px * factor))
        across, down = width_px / self.width_px, height_px / self.height_px
        return Camera(
            width_px, height_px, self.fx_px * across, self.fy_px * down, self.cx_px * across, self.cy_px * down
        )

    def matrix(self, like: Tensor) -> Tensor:
        """Return K [3, 3] with the dtype and device of ``like``."""
        rows = [[self.fx_px, 0.0, self.cx_px], [0.0, self.fy_px, self.cy_px], [0.0, 0.0, 1.0]]
        return torch.tensor(rows, dtype=like.dtype, device=like.device)


def se3_exp(tangent: Tensor) -> Tensor:
    """Return the rigid motion [4, 4] of a tangent [6] = (translation part in metres, rotation vector in rad).

    Differentiable everywhere, at 0 too. Source: Ethan Eade, "Lie Groups for 2D and 3D Transformations", 3.2: with
    W the cross-product matrix of the rotation vector and t its length, R = I + A W + B W^2 and V = I + B W + C W^2,
    A = sin t / t, B = (1 - cos t) / t^2, C = (1 - A) / t^2; near 0 their series.
    """
    moved, turned = tangent[:3], tangent[3:]
    square = turned @ turned
    near = square < 1e-4 if tangent.dtype == torch.float32 else square < 1e-8
    # both branches of where() are differentiated, so the far one must stay finite at 0
    far = torch.where(near, torch.ones_like(square), square)
    angle = far.sqrt()
    a = torch.where(near, 1 - square / 6 + square**2 / 120, angle.sin() / angle)
    # 1 - cos t by the half angle, to avoid cancellation
    b = torch.where(near, 0.5 - square / 24 + square**2 / 720, 2 * (angle / 2).sin() ** 2 / far)
    c = torch.where(near, 1 / 6 - square / 120 + square**2 / 5040, (1 - angle.sin() / angle) / far)
    x, y, z = turned.unbind()
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    cross_square = cross @ cross
    identity = torch.eye(3, dtype=tangent.dtype, device=tangent.device)
    rotation = identity + a * cross + b * cross_square
    translation = (identity + b * cross + c * cross_square) @ moved
    last = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=tangent.dtype, device=tangent.device)
    return torch.cat([torch.cat([rotation, translation[:, None]], 1), last])
