"""The rasteriser, one interface for two backends: our own tiles on any device, gsplat on CUDA."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Literal

from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.compositing import composite
from modal_workers.gaussians.projection import project
from modal_workers.gaussians.render_result import RenderResult
from modal_workers.gaussians.splats import Splats
from modal_workers.gaussians.tiles import build_tiling

__all__ = ["Backend", "RenderResult", "backend_for", "rasterize"]

Backend = Literal["auto", "ours", "gsplat"]


def backend_for(splats: Splats, backend: Backend = "auto") -> Literal["ours", "gsplat"]:
    """Return the backend for these splats: gsplat for tensors on CUDA where it is installed, else our own.

    Raises:
        ValueError: gsplat was requested, and the tensors are not on CUDA.
    """
    cuda = splats.means.device.type == "cuda"
    if backend == "gsplat" and not cuda:
        raise ValueError("gsplat draws on CUDA only; move the splats there or ask for the backend 'ours'.")
    if backend != "auto":
        return backend
    return "gsplat" if cuda and importlib.util.find_spec("gsplat") is not None else "ours"


def rasterize(
    splats: Splats,
    camera: Camera,
    camera_from_world: Tensor,
    *,
    background: Tensor | None = None,
    backend: Backend = "auto",
) -> RenderResult:
    """Render the splats from the camera at ``camera_from_world`` [4, 4]; differentiable with respect to all of both.

    ``background`` [3] shows through where the splats do not cover; the default is black.
    """
    if backend_for(splats, backend) == "gsplat" and len(splats):
        # imported here: without CUDA the import may start a compiler
        from modal_workers.gaussians.gsplat_backend import draw  # noqa: PLC0415

        rendered = draw(splats, camera, camera_from_world)
    else:
        rendered = _draw(splats, camera, camera_from_world)
    if background is None:
        return rendered
    return replace(rendered, colour=rendered.colour + (1 - rendered.alpha) * background)


def _draw(splats: Splats, camera: Camera, camera_from_world: Tensor) -> RenderResult:
    projected = project(splats, camera, camera_from_world)
    table = projected.table
    if table.requires_grad:
        table.retain_grad()
    summed, alpha = composite(table, build_tiling(projected, camera), (camera.width_px, camera.height_px))
    depth = summed[..., :1] / alpha.clamp(min=1e-10)
    radii = projected.halves_px.amax(0)

    def gradient() -> Tensor | None:
        return None if table.grad is None else table.grad[:2].T

    return RenderResult(summed[..., 1:], alpha, depth, radii, table[:2].T, gradient)
