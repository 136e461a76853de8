"""Frames from splats, with straight alpha, and their PNG encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.gaussians.camera import Camera
from modal_workers.gaussians.rasterize import rasterize
from modal_workers.nerf.orbit import CameraOrbit
from modal_workers.nerf.scene import TrainedScene

Bytes = NDArray[np.uint8]

#: The fastest small encoding of OpenCV and Pillow; the filter matters more than the level.
_PNG: Final = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
#: Alpha below half a step of 8 bits is 0.
_MIN_ALPHA: Final = 0.5 / 255


class FrameSource(Protocol):
    """Renderer of frames."""

    def frames(self, orbit: CameraOrbit, wanted: Iterable[int]) -> Iterator[tuple[int, Bytes]]:
        """Render frames in order, RGBA with straight alpha [S, S, 4]."""


class SplatFrames:
    """Renders a scene of splats."""

    def __init__(self, scene: TrainedScene, device: torch.device | None = None) -> None:
        assert scene.splats is not None
        self._device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._splats = scene.splats.to(self._device)

    @property
    def device(self) -> str:
        """Device of the renderer."""
        return self._device.type

    def frames(self, orbit: CameraOrbit, wanted: Iterable[int]) -> Iterator[tuple[int, Bytes]]:
        """Render frames in order, RGBA with straight alpha [S, S, 4]."""
        half = orbit.size_px / 2
        camera = Camera(orbit.size_px, orbit.size_px, orbit.focal_px, orbit.focal_px, half, half)
        for frame in wanted:
            pose = torch.from_numpy(np.linalg.inv(orbit.world_from_camera(frame)))
            yield frame, self._render(camera, pose.to(self._device, torch.float32))

    @torch.inference_mode()
    def _render(self, camera: Camera, camera_from_world: torch.Tensor) -> Bytes:
        rendered = rasterize(self._splats, camera, camera_from_world)
        alpha = rendered.alpha
        colour = rendered.colour / alpha.clamp(min=_MIN_ALPHA)
        rgba = torch.cat([torch.where(alpha < _MIN_ALPHA, 0.0, colour), alpha], -1)
        return np.asarray(rgba.clamp_(0, 1).mul_(255).round_().to(torch.uint8).cpu().numpy(), np.uint8)


def encode_png(rgba: Bytes) -> bytes:
    """Encode RGBA [H, W, 4] as PNG; the same image gives the same bytes."""
    encoded, data = cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), _PNG)
    if not encoded:
        raise ValueError("the frame cannot be encoded")
    return data.tobytes()


def decode_png(data: bytes) -> Bytes | None:
    """Decode a PNG with all its channels, BGRA [H, W, 4] for a frame; None where it is not a PNG."""
    return decode_picture(data, cv2.IMREAD_UNCHANGED)
