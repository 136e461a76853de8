"""Projection of Gaussians into the image: centres, ellipses and view-dependent colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.spherical_harmonics import radiance
from modal_workers.gaussians.splats import Splats

#: Near plane.
NEAR_M: Final = 0.01
#: Added to the variances in the image, so that no splat falls between pixels; gsplat's eps2d.
LOW_PASS_PX2: Final = 0.3
#: Alphas below one step of 8 bits are ignored.
ALPHA_MIN: Final = 1 / 255
#: Opacities are scaled by this, so that gradients reach the splats behind an opaque one. Other rasterisers clamp alpha
#: here, which also cuts its gradient.
OPACITY_MAX: Final = 0.999
#: Rows of the table that define the ellipse; the rows after them are composited.
COEFFICIENTS: Final = 6


@dataclass(frozen=True)
class ProjectedSplats:
    """N ellipses in the image.

    The rows of ``table`` [10, N]: x, y in px; a, b, c of the inverse covariance [[a, b], [b, c]] in 1/px^2; the
    logarithm of the opacity; depth in m; red, green, blue.
    """

    table: Tensor
    halves_px: Tensor  # [2, N] half the sides of the box outside which alpha is below ALPHA_MIN; 0 if not visible


def project(splats: Splats, camera: Camera, camera_from_world: Tensor) -> ProjectedSplats:
    """Project by the local affine approximation.

    Sources: Zwicker et al., "EWA Splatting", 2002; Kerbl et al., "3D Gaussian Splatting", 2023, section 4. As in
    gsplat, the Jacobian is evaluated at most 0.15 image widths outside the image.
    """
    geometry, halves = _Projection.apply(  # type: ignore[no-untyped-call]
        splats.means, splats.log_scales, splats.quaternions, splats.logit_opacities, camera_from_world, camera
    )
    return ProjectedSplats(torch.cat([geometry, radiance(splats, camera_from_world).T]), halves)


@dataclass(frozen=True)
class _Saved:
    """Intermediate results for the gradient; the splats are the last dimension, so that arithmetic is contiguous."""

    rotation: Tensor  # [3, 3] of the camera
    means: Tensor  # [N, 3]
    inverse_depths: Tensor  # [N]
    directions: Tensor  # [2, N] x / z, y / z
    clamped: Tensor  # [2, N] the same, clamped near the image
    scales: Tensor  # [3, N]
    units: Tensor  # [4, N]
    lengths: Tensor  # [N] of the quaternions
    turns: Tensor  # [3, 3, N] rotation matrices
    spread: Tensor  # [3, 3, N] camera x turn x scales
    rows: Tensor  # [2, 3, N] root of the covariance in the image, without the low pass
    fades: Tensor  # [N] d log opacity / d logit


class _Projection(torch.autograd.Function):
    """From means, log scales, quaternions, logits and pose to the table's first 7 rows and the halves."""

    @staticmethod
    def forward(  # noqa: PLR0917 - signature of torch.autograd.Function
        ctx: Any, means: Tensor, logs: Tensor, quaternions: Tensor, logits: Tensor, pose: Tensor, camera: Camera
    ) -> tuple[Tensor, Tensor]:
        finite = (means.sum(1) + logs.sum(1) + quaternions.sum(1) + logits).isfinite()
        if not bool(finite.all()):
            # not drawn; set to zero so that no gradient becomes NaN
            means, logs, quaternions = (
                torch.where(finite[:, None], tensor, 0.0) for tensor in (means, logs, quaternions)
            )
            logits = torch.where(finite, logits, 0.0)
        rotation = pose[:3, :3]
        at = torch.addmm(pose[:3, 3:], rotation, means.T)
        ahead = (at[2] > NEAR_M) & finite
        depths = torch.where(ahead, at[2], 1.0)
        inverse = depths.reciprocal()
        directions = at[:2] * inverse
        (low_x, low_y), (high_x, high_y) = _limits(camera)
        clamped = torch.stack([directions[0].clamp(low_x, high_x), directions[1].clamp(low_y, high_y)])
        lengths = quaternions.norm(dim=1).clamp(min=1e-12)
        units = (quaternions.T / lengths).contiguous()
        turns, scales = _rotation_matrices(units), logs.T.exp()
        spread = (rotation @ turns.view(3, -1)).view(3, 3, -1).mul_(scales)
        focal = at.new_tensor([camera.fx_px, camera.fy_px])
        rows = (spread[:2] - clamped[:, None] * spread[2]).mul_(inverse).mul_(focal[:, None, None])
        squares = rows.square().sum(1).add_(LOW_PASS_PX2)
        crossed = (rows[0] * rows[1]).sum(0)
        determinant = torch.addcmul(squares[0] * squares[1], crossed, crossed, value=-1)
        log_opacities = torch.nn.functional.logsigmoid(logits).add_(math.log(OPACITY_MAX))
        middle = at.new_tensor([camera.cx_px, camera.cy_px])
        centres = directions * focal[:, None] + middle[:, None]
        conics = torch.stack([squares[1], -crossed, squares[0]]) / determinant
        halves = _halves(centres, squares, log_opacities, camera) * (ahead & (determinant > 0))
        ctx.stored = _Saved(
            rotation,
            means,
            inverse,
            directions,
            clamped,
            scales,
            units,
            lengths,
            turns,
            spread,
            rows,
            (-logits).sigmoid(),
        )
        ctx.camera, ctx.conics = camera, conics
        ctx.mark_non_differentiable(halves)
        return torch.cat([centres, conics, log_opacities[None], depths[None]]), halves

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
        saved: _Saved = ctx.stored
        camera: Camera = ctx.camera
        gradient = gradients[0]
        of_rows = _row_gradient(ctx.conics, gradient[2:5], saved.rows)
        focal = gradient.new_tensor([camera.fx_px, camera.fy_px])[:, None]
        across = of_rows * (focal * saved.inverse_depths)[:, None]
        of_spread = torch.cat([across, (-(saved.clamped[:, None] * across).sum(0))[None]])
        # where the Jacobian is clamped it has no gradient
        free = saved.clamped == saved.directions
        of_directions = gradient[:2] * focal - free * (across * saved.spread[2]).sum(1)
        of_depth = gradient[6] - saved.inverse_depths * (
            (of_rows * saved.rows).sum((0, 1)) + (of_directions * saved.directions).sum(0)
        )
        of_places = torch.cat([of_directions * saved.inverse_depths, of_depth[None]])
        of_logs = (of_spread * saved.spread).sum(0)
        turned = of_spread.mul_(saved.scales).view(3, -1)
        of_turns = (saved.rotation.T @ turned).view(3, 3, -1)
        of_pose = gradient.new_zeros(4, 4)
        of_pose[:3, :3] = of_places @ saved.means + turned @ saved.turns.view(3, -1).T
        of_pose[:3, 3] = of_places.sum(1)
        of_units = _unit_gradient(of_turns, saved.units)
        of_quaternions = (of_units - saved.units * (of_units * saved.units).sum(0)) / saved.lengths
        of_means = (saved.rotation.T @ of_places).T
        return of_means, of_logs.T, of_quaternions.T, gradient[5] * saved.fades, of_pose, None


def _limits(camera: Camera) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the smallest and the largest x / z and y / z at which the Jacobian is evaluated."""
    slack_x, slack_y = 0.15 * camera.width_px, 0.15 * camera.height_px
    low = ((-camera.cx_px - slack_x) / camera.fx_px, (-camera.cy_px - slack_y) / camera.fy_px)
    high_x = (camera.width_px - camera.cx_px + slack_x) / camera.fx_px
    return low, (high_x, (camera.height_px - camera.cy_px + slack_y) / camera.fy_px)


def _halves(centres: Tensor, variances: Tensor, log_opacities: Tensor, camera: Camera) -> Tensor:
    """Return half the sides [2, N] of the boxes that contain all alphas >= ALPHA_MIN; 0 outside the image."""
    reach = (log_opacities - math.log(ALPHA_MIN)).mul_(2).clamp_(min=0)
    halves = (variances * reach).sqrt_()
    size = centres.new_tensor([camera.width_px, camera.height_px])[:, None]
    inside = (centres + halves > 0) & (centres - halves < size)
    return halves * (inside[0] & inside[1])


def _rotation_matrices(units: Tensor) -> Tensor:
    """Return the rotation matrices [3, 3, N] of unit quaternions [4, N]."""
    w, x, y, z = units.unbind()
    xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
    wx, wy, wz = w * x, w * y, w * z
    rows = [
        0.5 - (yy + zz), xy - wz, xz + wy,
        xy + wz, 0.5 - (xx + zz), yz - wx,
        xz - wy, yz + wx, 0.5 - (xx + yy),
    ]  # fmt: skip
    return torch.stack(rows).mul_(2).view(3, 3, -1)


def _unit_gradient(of_turns: Tensor, units: Tensor) -> Tensor:
    """Return the gradient of the unit quaternions [4, N] from that of their matrices [3, 3, N]."""
    w, x, y, z = units.unbind()
    (g00, g01, g02), (g10, g11, g12), (g20, g21, g22) = (row.unbind() for row in of_turns)
    about_x, about_y, about_z = g21 - g12, g02 - g20, g10 - g01
    xy, xz, yz = g01 + g10, g02 + g20, g12 + g21
    of_units = [
        x * about_x + y * about_y + z * about_z,
        y * xy + z * xz + w * about_x - 2 * x * (g11 + g22),
        x * xy + z * yz + w * about_y - 2 * y * (g00 + g22),
        x * xz + y * yz + w * about_z - 2 * z * (g00 + g11),
    ]
    return torch.stack(of_units).mul_(2)


def _row_gradient(conics: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
    """Return the gradient of the covariance's root [2, 3, N] from that of its inverse [3, N]: dS = -Q dQ Q."""
    a, b, c = conics.unbind()
    of_a, of_b, of_c = gradient.unbind()
    half = 0.5 * of_b
    left_a, left_b = a * of_a + b * half, a * half + b * of_c
    right_a, right_b = b * of_a + c * half, b * half + c * of_c
    of_xx, of_xy, of_yy = left_a * a + left_b * b, left_a * b + left_b * c, right_a * b + right_b * c
    both = torch.stack([of_xx * rows[0] + of_xy * rows[1], of_yy * rows[1] + of_xy * rows[0]])
    return both.mul_(-2)
