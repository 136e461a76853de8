"""Where the Gaussians fall in a picture: their centres, their ellipses and their colours as seen from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.spherical_harmonics import radiance
from modal_workers.gaussians.splats import Splats

#: Nearer than this nothing is drawn.
NEAR_M: Final = 0.01
#: Added to the variances in the picture, so that no splat falls between the pixels. As gsplat's eps2d.
LOW_PASS_PX2: Final = 0.3
#: Less than one step of 8 bits is not drawn.
ALPHA_MIN: Final = 1 / 255
#: What an opacity of 1 is drawn as, so that gradients reach what is behind. Others cut alpha at it, and its gradient
#: with it; here all opacities are scaled by it.
OPACITY_MAX: Final = 0.999
#: The first rows of the table that say where a splat is drawn; those after them are what is summed by weight.
COEFFICIENTS: Final = 6


@dataclass(frozen=True)
class ProjectedSplats:
    """N ellipses in the picture.

    The rows of ``table`` [10, N]: x, y in px; a, b, c of the inverse covariance [[a, b], [b, c]] in 1/px^2; the
    logarithm of the opacity; depth in m; red, green, blue.
    """

    table: Tensor
    halves_px: Tensor  # [2, N] half the sides of the box outside which alpha is below ALPHA_MIN; 0 where not seen


def project(splats: Splats, camera: Camera, camera_from_world: Tensor) -> ProjectedSplats:
    """Project by the local affine approximation.

    Sources: Zwicker et al., "EWA Splatting", 2002; Kerbl et al., "3D Gaussian Splatting", 2023, section 4. As gsplat,
    the Jacobian is taken at most 0.15 picture widths outside the picture.
    """
    geometry, halves = _Projection.apply(  # type: ignore[no-untyped-call]
        splats.means, splats.log_scales, splats.quaternions, splats.logit_opacities, camera_from_world, camera
    )
    return ProjectedSplats(torch.cat([geometry, radiance(splats, camera_from_world).T]), halves)


@dataclass(frozen=True)
class _Seen:
    """What the gradient needs again; every tensor has the splats last, so that arithmetic runs along memory."""

    rotation: Tensor  # [3, 3] of the camera
    means: Tensor  # [N, 3]
    inverse_depths: Tensor  # [N]
    directions: Tensor  # [2, N] x / z, y / z
    held: Tensor  # [2, N] the same, held near the picture
    scales: Tensor  # [3, N]
    units: Tensor  # [4, N]
    lengths: Tensor  # [N] of the quaternions
    turns: Tensor  # [3, 3, N] rotation matrices
    spread: Tensor  # [3, 3, N] camera x turn x scales
    rows: Tensor  # [2, 3, N] the root of the covariance in the picture, low pass excepted
    fades: Tensor  # [N] d log opacity / d logit


class _Projection(torch.autograd.Function):
    """Means, logarithms of scales, quaternions, logits and pose, to the table's first 7 rows and the halves."""

    @staticmethod
    def forward(  # noqa: PLR0917 - torch gives them one by one
        ctx: Any, means: Tensor, logs: Tensor, quaternions: Tensor, logits: Tensor, pose: Tensor, camera: Camera
    ) -> tuple[Tensor, Tensor]:
        whole = (means.sum(1) + logs.sum(1) + quaternions.sum(1) + logits).isfinite()
        if not bool(whole.all()):
            # not drawn, and zero so that no gradient becomes NaN with them
            means, logs, quaternions = (torch.where(whole[:, None], one, 0.0) for one in (means, logs, quaternions))
            logits = torch.where(whole, logits, 0.0)
        rotation = pose[:3, :3]
        at = torch.addmm(pose[:3, 3:], rotation, means.T)
        ahead = (at[2] > NEAR_M) & whole
        depths = torch.where(ahead, at[2], 1.0)
        inverse = depths.reciprocal()
        directions = at[:2] * inverse
        (low_x, low_y), (high_x, high_y) = _limits(camera)
        held = torch.stack([directions[0].clamp(low_x, high_x), directions[1].clamp(low_y, high_y)])
        lengths = quaternions.norm(dim=1).clamp(min=1e-12)
        units = (quaternions.T / lengths).contiguous()
        turns, scales = _turns(units), logs.T.exp()
        spread = (rotation @ turns.view(3, -1)).view(3, 3, -1).mul_(scales)
        focal = at.new_tensor([camera.fx_px, camera.fy_px])
        rows = (spread[:2] - held[:, None] * spread[2]).mul_(inverse).mul_(focal[:, None, None])
        squares = rows.square().sum(1).add_(LOW_PASS_PX2)
        crossed = (rows[0] * rows[1]).sum(0)
        determinant = torch.addcmul(squares[0] * squares[1], crossed, crossed, value=-1)
        log_opacities = torch.nn.functional.logsigmoid(logits).add_(math.log(OPACITY_MAX))
        middle = at.new_tensor([camera.cx_px, camera.cy_px])
        centres = directions * focal[:, None] + middle[:, None]
        conics = torch.stack([squares[1], -crossed, squares[0]]) / determinant
        halves = _halves(centres, squares, log_opacities, camera) * (ahead & (determinant > 0))
        ctx.seen = _Seen(
            rotation, means, inverse, directions, held, scales, units, lengths, turns, spread, rows, (-logits).sigmoid()
        )
        ctx.camera, ctx.conics = camera, conics
        ctx.mark_non_differentiable(halves)
        return torch.cat([centres, conics, log_opacities[None], depths[None]]), halves

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, None]:
        seen: _Seen = ctx.seen
        camera: Camera = ctx.camera
        gradient = gradients[0]
        of_rows = _of_rows(ctx.conics, gradient[2:5], seen.rows)
        focal = gradient.new_tensor([camera.fx_px, camera.fy_px])[:, None]
        across = of_rows * (focal * seen.inverse_depths)[:, None]
        of_spread = torch.cat([across, (-(seen.held[:, None] * across).sum(0))[None]])
        # where the Jacobian is held back it does not move
        free = seen.held == seen.directions
        of_directions = gradient[:2] * focal - free * (across * seen.spread[2]).sum(1)
        of_depth = gradient[6] - seen.inverse_depths * (
            (of_rows * seen.rows).sum((0, 1)) + (of_directions * seen.directions).sum(0)
        )
        of_places = torch.cat([of_directions * seen.inverse_depths, of_depth[None]])
        of_logs = (of_spread * seen.spread).sum(0)
        turned = of_spread.mul_(seen.scales).view(3, -1)
        of_turns = (seen.rotation.T @ turned).view(3, 3, -1)
        of_pose = gradient.new_zeros(4, 4)
        of_pose[:3, :3] = of_places @ seen.means + turned @ seen.turns.view(3, -1).T
        of_pose[:3, 3] = of_places.sum(1)
        of_units = _of_units(of_turns, seen.units)
        of_quaternions = (of_units - seen.units * (of_units * seen.units).sum(0)) / seen.lengths
        of_means = (seen.rotation.T @ of_places).T
        return of_means, of_logs.T, of_quaternions.T, gradient[5] * seen.fades, of_pose, None


def _limits(camera: Camera) -> tuple[tuple[float, float], tuple[float, float]]:
    """Give the least and the greatest x / z and y / z that the Jacobian is taken at."""
    slack_x, slack_y = 0.15 * camera.width_px, 0.15 * camera.height_px
    low = ((-camera.cx_px - slack_x) / camera.fx_px, (-camera.cy_px - slack_y) / camera.fy_px)
    high_x = (camera.width_px - camera.cx_px + slack_x) / camera.fx_px
    return low, (high_x, (camera.height_px - camera.cy_px + slack_y) / camera.fy_px)


def _halves(centres: Tensor, variances: Tensor, log_opacities: Tensor, camera: Camera) -> Tensor:
    """Give half the sides [2, N] of the boxes that hold all alphas of ALPHA_MIN and more; 0 outside of the picture."""
    reach = (log_opacities - math.log(ALPHA_MIN)).mul_(2).clamp_(min=0)
    halves = (variances * reach).sqrt_()
    size = centres.new_tensor([camera.width_px, camera.height_px])[:, None]
    inside = (centres + halves > 0) & (centres - halves < size)
    return halves * (inside[0] & inside[1])


def _turns(units: Tensor) -> Tensor:
    """Give the rotation matrices [3, 3, N] of unit quaternions [4, N]."""
    w, x, y, z = units.unbind()
    xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
    wx, wy, wz = w * x, w * y, w * z
    rows = [
        0.5 - (yy + zz), xy - wz, xz + wy,
        xy + wz, 0.5 - (xx + zz), yz - wx,
        xz - wy, yz + wx, 0.5 - (xx + yy),
    ]  # fmt: skip
    return torch.stack(rows).mul_(2).view(3, 3, -1)


def _of_units(of_turns: Tensor, units: Tensor) -> Tensor:
    """Give the gradient of the unit quaternions [4, N] from that of their matrices [3, 3, N]."""
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


def _of_rows(conics: Tensor, gradient: Tensor, rows: Tensor) -> Tensor:
    """Give the gradient of the covariance's root [2, 3, N] from that of its inverse [3, N]: dS = -Q dQ Q."""
    a, b, c = conics.unbind()
    of_a, of_b, of_c = gradient.unbind()
    half = 0.5 * of_b
    left_a, left_b = a * of_a + b * half, a * half + b * of_c
    right_a, right_b = b * of_a + c * half, b * half + c * of_c
    of_xx, of_xy, of_yy = left_a * a + left_b * b, left_a * b + left_b * c, right_a * b + right_b * c
    both = torch.stack([of_xx * rows[0] + of_xy * rows[1], of_yy * rows[1] + of_xy * rows[0]])
    return both.mul_(-2)
