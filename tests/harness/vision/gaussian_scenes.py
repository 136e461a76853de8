"""Random splats, and a slow reference renderer: every splat at every pixel, in float64 numpy."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.splats import Splats

Floats = NDArray[np.float64]


def random_splats(
    count: int, seed: int, *, scale_m: float = 0.08, opacity: float = 0.5, harmonics: int = 0, dtype=torch.float64
) -> Splats:
    """Return splats in a box in front of a camera at the origin that looks along z."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    box, corner = torch.tensor([2.4, 1.8, 1.5]), torch.tensor([-1.2, -0.9, 1.5])
    splats = Splats(
        torch.rand(count, 3, generator=generator, dtype=torch.float64) * box + corner,
        math.log(scale_m) + 0.5 * normal(count, 3),
        normal(count, 4),
        math.log(opacity / (1 - opacity)) + normal(count),
        normal(count, 3),
        0.3 * normal(count, harmonics, 3) if harmonics else None,
    )
    return splats.map(lambda tensor: tensor.to(dtype))


def render_dense(splats: Splats, camera: Camera, camera_from_world: torch.Tensor) -> Floats:
    """Return red, green, blue, alpha, depth [H, W, 5] over black by the equations of the papers."""
    view = camera_from_world.detach().double().numpy()
    means, logs, quaternions, logits, colours = (
        tensor.detach().double().numpy() for name, tensor in splats.tensors().items() if name != "sh_rest"
    )
    height, width = camera.height_px, camera.width_px
    row, column = np.mgrid[:height, :width] + 0.5
    found = np.zeros((height, width, 5))
    light = np.ones((height, width))
    at = means @ view[:3, :3].T + view[:3, 3]
    for index in np.argsort(at[:, 2], kind="stable"):
        x, y, z = at[index]
        if not z > 0.01:
            continue
        a, b, c, d = quaternions[index] / np.linalg.norm(quaternions[index])
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d],
            ]
        )
        covariance = turn @ np.diag(np.exp(2 * logs[index])) @ turn.T
        bent_x = np.clip(
            x / z,
            -(camera.cx_px + 0.15 * width) / camera.fx_px,
            (width - camera.cx_px + 0.15 * width) / camera.fx_px,
        )
        bent_y = np.clip(
            y / z,
            -(camera.cy_px + 0.15 * height) / camera.fy_px,
            (height - camera.cy_px + 0.15 * height) / camera.fy_px,
        )
        jacobian = np.array(
            [[camera.fx_px / z, 0, -camera.fx_px * bent_x / z], [0, camera.fy_px / z, -camera.fy_px * bent_y / z]]
        )
        local = jacobian @ view[:3, :3]
        inverse = np.linalg.inv(local @ covariance @ local.T + 0.3 * np.eye(2))
        dx = column - (camera.fx_px * x / z + camera.cx_px)
        dy = row - (camera.fy_px * y / z + camera.cy_px)
        power = 0.5 * (inverse[0, 0] * dx * dx + inverse[1, 1] * dy * dy) + inverse[0, 1] * dx * dy
        alpha = 0.999 / (1 + np.exp(-logits[index])) * np.exp(-power)
        alpha = np.where(alpha < 1 / 255, 0, alpha)
        colour = np.maximum(0.5 + colours[index] / (2 * math.sqrt(math.pi)), 0)
        found += (light * alpha)[..., None] * np.array([*colour, 1, z])
        light = light * (1 - alpha)
    found[..., 4] /= np.maximum(found[..., 3], 1e-10)
    return found
