"""Rendering by gsplat's CUDA kernels; import it only where CUDA is available: the import may start a compiler."""

from __future__ import annotations

import torch
from gsplat import rasterization
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.projection import LOW_PASS_PX2, NEAR_M
from modal_workers.gaussians.render_result import RenderResult
from modal_workers.gaussians.spherical_harmonics import radiance
from modal_workers.gaussians.splats import Splats


def draw(splats: Splats, camera: Camera, camera_from_world: Tensor) -> RenderResult:
    """Render over black, as ``rasterize``. Source: ``gsplat.rasterization`` of version 1.5.3."""
    colour, alpha, found = rasterization(
        splats.means,
        splats.quaternions,
        splats.log_scales.exp(),
        splats.logit_opacities.sigmoid(),
        # evaluated by our own code, so that both backends use the same colours
        radiance(splats, camera_from_world),
        camera_from_world[None],
        camera.matrix(splats.means)[None],
        camera.width_px,
        camera.height_px,
        near_plane=NEAR_M,
        eps2d=LOW_PASS_PX2,
        packed=False,
        render_mode="RGB+ED",
    )
    means2d = found["means2d"]
    if means2d.requires_grad:
        means2d.retain_grad()
    # one radius per splat in older versions, one per axis in newer ones
    radii = found["radii"].reshape(len(splats), -1).amax(-1).to(torch.float32)

    def gradient() -> Tensor | None:
        return None if means2d.grad is None else means2d.grad.reshape(-1, 2)

    return RenderResult(colour[0, ..., :3], alpha[0], colour[0, ..., 3:], radii, means2d.reshape(-1, 2), gradient)
