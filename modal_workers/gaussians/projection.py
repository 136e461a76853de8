"""Where the Gaussians fall in a picture: their centres, their ellipses and their colours as seen from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.harmonics import radiance
from modal_workers.gaussians.splats import Splats, rotations

#: Nearer than this nothing is drawn.
NEAR_M: Final = 0.01
#: Added to the variances in the picture, so that no splat falls between the pixels. As gsplat's eps2d.
LOW_PASS_PX2: Final = 0.3
#: Less than one step of 8 bits is not drawn.
ALPHA_MIN: Final = 1 / 255
#: What an opacity of 1 is drawn as, so that gradients reach what is behind. Others cut alpha at it, and its gradient
#: with it; here all opacities are scaled by it.
OPACITY_MAX: Final = 0.999


@dataclass(frozen=True)
class Projected:
    """N ellipses in the picture."""

    means2d: Tensor  # [N, 2] px
    conics: Tensor  # [N, 3] a, b, c of the inverse covariance [[a, b], [b, c]], 1/px^2
    depths: Tensor  # [N] m
    colours: Tensor  # [N, 3] at least 0
    log_opacities: Tensor  # [N]
    halves_px: Tensor  # [N, 2] half the sides of the box outside which alpha is below ALPHA_MIN; 0 where not seen


def project(splats: Splats, camera: Camera, camera_from_world: Tensor) -> Projected:
    """Project by the local affine approximation.

    Sources: Zwicker et al., "EWA Splatting", 2002; Kerbl et al., "3D Gaussian Splatting", 2023, section 4. As gsplat,
    the Jacobian is taken at most 0.15 picture widths outside the picture.
    """
    rotation, translation = camera_from_world[:3, :3], camera_from_world[:3, 3]
    x, y, z = (splats.means @ rotation.T + translation).unbind(-1)
    ahead = z > NEAR_M
    z = torch.where(ahead, z, torch.ones_like(z))
    fx, fy = camera.fx_px, camera.fy_px
    slack_x, slack_y = 0.15 * camera.width_px, 0.15 * camera.height_px
    across = (x / z).clamp((-camera.cx_px - slack_x) / fx, (camera.width_px - camera.cx_px + slack_x) / fx)
    down = (y / z).clamp((-camera.cy_px - slack_y) / fy, (camera.height_px - camera.cy_px + slack_y) / fy)
    spread = (rotation @ rotations(splats.quaternions)) * splats.log_scales.exp()[:, None, :]
    inverse = 1 / z
    row_x = (spread[:, 0] - across[:, None] * spread[:, 2]) * (fx * inverse)[:, None]
    row_y = (spread[:, 1] - down[:, None] * spread[:, 2]) * (fy * inverse)[:, None]
    xx = row_x.square().sum(-1) + LOW_PASS_PX2
    xy = (row_x * row_y).sum(-1)
    yy = row_y.square().sum(-1) + LOW_PASS_PX2
    determinant = xx * yy - xy * xy
    means2d = torch.stack([fx * x * inverse + camera.cx_px, fy * y * inverse + camera.cy_px], -1)
    log_opacities = torch.nn.functional.logsigmoid(splats.logit_opacities) + math.log(OPACITY_MAX)
    with torch.no_grad():
        reach = 2 * (log_opacities - math.log(ALPHA_MIN))
        halves = (torch.stack([xx, yy], -1) * reach.clamp(min=0)[:, None]).sqrt()
        size = halves.new_tensor([camera.width_px, camera.height_px])
        inside = ((means2d + halves > 0) & (means2d - halves < size)).all(-1)
        # comparisons with NaN are false: what is not finite is not seen
        seen = ahead & (reach > 0) & inside & (determinant > 0)
        halves = torch.where(seen[:, None], halves, torch.zeros_like(halves))
    return Projected(
        means2d,
        torch.stack([yy, -xy, xx], -1) / determinant[:, None],
        z,
        radiance(splats, camera_from_world),
        log_opacities,
        halves,
    )
