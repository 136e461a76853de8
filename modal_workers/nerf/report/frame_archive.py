"""The rendered frames, read one at a time from their ZIPs."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.footage.picture_decoder import decode_picture
from modal_workers.nerf.params import BATCH_FRAMES, NerfParams

RgbaImage = NDArray[np.uint8]


@dataclass
class FrameArchive:
    """The frames of the orbit as straight-alpha RGBA [H, W, 4]; ``fetch`` returns an artifact as a local file."""

    params: NerfParams
    fetch: Callable[[str], Path | None]

    def __post_init__(self) -> None:
        self._zips: dict[int, Path] = {}

    def __len__(self) -> int:
        return self.params.frames

    def png(self, frame: int) -> bytes:
        """Return the PNG of a frame.

        Raises:
            SaccadeError: INTERNAL, the frame is missing.
        """
        batch = frame // BATCH_FRAMES
        path = self._zips.get(batch) or self.fetch(f"frames/batch_{batch:02d}.zip")
        if path is None:
            raise SaccadeError(ErrorCode.INTERNAL, f"frames/batch_{batch:02d}.zip of the rendering stage is missing.")
        self._zips[batch] = path
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(f"frame_{frame:04d}.png")
        except KeyError:
            raise SaccadeError(ErrorCode.INTERNAL, f"{path.name} has no frame {frame}.") from None

    def image(self, frame: int, size_px: int | None = None) -> RgbaImage:
        """Return a frame, downscaled where ``size_px`` is smaller."""
        decoded = decode_picture(self.png(frame), cv2.IMREAD_UNCHANGED)
        if decoded is None or decoded.ndim != 3 or decoded.shape[2] != 4:
            raise SaccadeError(ErrorCode.INTERNAL, f"Frame {frame} is not an image with an alpha channel.")
        image: RgbaImage = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA), np.uint8)
        if size_px is None or size_px >= image.shape[0]:
            return image
        return downscale(image, size_px)


def downscale(image: RgbaImage, size_px: int) -> RgbaImage:
    """Shrink straight-alpha RGBA to ``size_px`` square; colours are weighted by alpha."""
    values = np.asarray(image, np.float32) / np.float32(255)
    values[..., :3] *= values[..., 3:]
    values = np.asarray(cv2.resize(values, (size_px, size_px), interpolation=cv2.INTER_AREA), np.float32)
    alpha = values[..., 3:]
    values[..., :3] = np.where(alpha > 0, values[..., :3] / np.maximum(alpha, 1e-6), 0)
    return np.asarray(np.clip(values * 255, 0, 255).round(), np.uint8)


def composite(image: RgbaImage, background: Sequence[float] | NDArray[np.float32]) -> RgbaImage:
    """Composite a straight-alpha image over a colour or an RGB image [H, W, 3]."""
    alpha = image[..., 3:].astype(np.float32) / 255
    backdrop = np.asarray(background, np.float32)
    return (image[..., :3] * alpha + backdrop * (1 - alpha)).round().astype(np.uint8)


def ring_frames(params: NerfParams, share: float) -> range:
    """Return the frames of the ring at this share of the height: 0 the lowest, 1 the highest."""
    number = min(params.elevations - 1, round(share * (params.elevations - 1)))
    return range(number * params.azimuths, (number + 1) * params.azimuths)
