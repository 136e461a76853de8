"""Measures of what photos show of a frame: angle to the nearest photo, and share of the pixels seen from nearby.

The share of a frame is the mean of n over its pixels, weighted by alpha. For each splat, n is 1 where a photo of the
training in which it is visible was taken from within ``NEARBY_DEG`` of the frame's camera, as seen from the splat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor

from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.gaussians.splats import SH_0
from modal_workers.nerf.orbit import CameraOrbit
from modal_workers.nerf.photo_arcs import NEARBY_DEG, nearest_photo_deg
from modal_workers.nerf.scene import TrainedScene

#: Frames are rendered at this size for the share: it is a mean over all pixels.
_SIZE_PX: Final = 64
#: Pairs of a splat and a photo that are compared at once.
_PAIRS: Final = 2**22
_LEAST_ALPHA: Final = 1e-3


@dataclass(frozen=True)
class FrameView:
    """Measures of what photos show of one frame; None where unknown."""

    nearest_photo_deg: float | None = None
    seen_share: float | None = None


class PhotographedViews:
    """Compares the cameras of frames with those of the photos."""

    def __init__(self, scene: TrainedScene, orbit: CameraOrbit, device: torch.device) -> None:
        self._photos, self._orbit, self._splats = scene.cameras, orbit, None
        if scene.splats is None or scene.seen_by is None or scene.cameras is None:
            return
        trained = scene.seen_by.any(0)
        self._splats = scene.splats.to(device)
        self._seen_by = torch.from_numpy(scene.seen_by[:, trained]).to(device)
        self._cameras = torch.from_numpy(scene.cameras[trained]).to(device, torch.float32)

    def view(self, frame: int) -> FrameView:
        """Return the measures of a frame."""
        if self._photos is None:
            return FrameView()
        pose = self._orbit.world_from_camera(frame)
        nearest = nearest_photo_deg(pose[:3, 3] - np.array(self._orbit.centre), self._photos)
        share = self._seen_share(pose)
        return FrameView(round(nearest, 2), None if share is None else round(share, 4))

    @torch.inference_mode()
    def _seen_share(self, pose: np.ndarray) -> float | None:
        if self._splats is None:
            return None
        seen = self._seen_from_nearby(torch.from_numpy(pose[:3, 3]).to(self._cameras))
        white = torch.where(seen, 0.5 / SH_0, -0.5 / SH_0).to(self._splats.means.dtype)
        flat = replace(self._splats, colours=white[:, None].repeat(1, 3), sh_rest=None)
        half, focal_px = _SIZE_PX / 2, self._orbit.focal * _SIZE_PX
        camera = Camera(_SIZE_PX, _SIZE_PX, focal_px, focal_px, half, half)
        camera_from_world = torch.from_numpy(np.linalg.inv(pose)).to(self._cameras)
        rendered = rasterize(flat, camera, camera_from_world)
        alpha = float(rendered.alpha.sum())
        return float(rendered.colour[..., 0].clamp(min=0).sum()) / alpha if alpha > _LEAST_ALPHA else 0.0

    def _seen_from_nearby(self, eye: Tensor) -> Tensor:
        """Return which splats [N] a photo shows from nearly the direction of ``eye`` [3]."""
        assert self._splats is not None
        cosine = math.cos(math.radians(NEARBY_DEG))
        rows = max(1, _PAIRS // max(1, len(self._cameras)))
        parts = []
        for means, seen_by in zip(torch.split(self._splats.means, rows), torch.split(self._seen_by, rows), strict=True):
            to_eye = torch.nn.functional.normalize(eye - means, dim=1)
            to_photos = torch.nn.functional.normalize(self._cameras - means[:, None], dim=2)
            near = (to_photos @ to_eye[:, :, None])[..., 0] >= cosine
            parts.append((near & seen_by).any(1))
        return torch.cat(parts)
