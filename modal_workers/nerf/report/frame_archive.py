"""The frames that the rendering left, one after the other from its zips; holds one at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.params import BATCH_FRAMES, NerfParams

Picture = NDArray[np.uint8]


@dataclass
class FrameArchive:
    """The orbit's frames as straight-alpha RGBA [H, W, 4]; ``fetch`` gives an artifact as a local file."""

    params: NerfParams
    fetch: Callable[[str], Path | None]

    def __post_init__(self) -> None:
        self._zips: dict[int, Path] = {}

    def __len__(self) -> int:
        return self.params.frames

    def png(self, frame: int) -> bytes:
        """Give a frame's file.

        Raises:
            SaccadeError: INTERNAL, the rendering has not left it.
        """
        batch = frame // BATCH_FRAMES
        path = self._zips.get(batch) or self.fetch(f"frames/batch_{batch:02d}.zip")
        if path is None:
            raise SaccadeError(ErrorCode.INTERNAL, f"The rendering has left no frames/batch_{batch:02d}.zip.")
        self._zips[batch] = path
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(f"frame_{frame:04d}.png")
        except KeyError:
            raise SaccadeError(ErrorCode.INTERNAL, f"{path.name} has no frame {frame}.") from None

    def picture(self, frame: int, size_px: int | None = None) -> Picture:
        """Give a frame, smaller where ``size_px`` is less than its side."""
        encoded = np.frombuffer(self.png(frame), np.uint8)
        decoded = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        if decoded is None or decoded.ndim != 3 or decoded.shape[2] != 4:
            raise SaccadeError(ErrorCode.INTERNAL, f"Frame {frame} is no picture with an alpha channel.")
        picture: Picture = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGBA), np.uint8)
        if size_px is None or size_px >= picture.shape[0]:
            return picture
        return downscale(picture, size_px)


def downscale(picture: Picture, size_px: int) -> Picture:
    """Shrink straight-alpha RGBA to ``size_px`` square; colours count as much as they cover."""
    values = np.asarray(picture, np.float32) / np.float32(255)
    values[..., :3] *= values[..., 3:]
    values = np.asarray(cv2.resize(values, (size_px, size_px), interpolation=cv2.INTER_AREA), np.float32)
    alpha = values[..., 3:]
    values[..., :3] = np.where(alpha > 0, values[..., :3] / np.maximum(alpha, 1e-6), 0)
    return np.asarray(np.clip(values * 255, 0, 255).round(), np.uint8)


def composite(picture: Picture, background: Sequence[float] | NDArray[np.float32]) -> Picture:
    """Lay a straight-alpha picture over a colour or an RGB picture [H, W, 3] of its size."""
    alpha = picture[..., 3:].astype(np.float32) / 255
    ground = np.asarray(background, np.float32)
    return (picture[..., :3] * alpha + ground * (1 - alpha)).round().astype(np.uint8)


def ring_frames(params: NerfParams, share: float) -> range:
    """Give the frames of the ring that is so far up, 0 the lowest, 1 the highest."""
    number = min(params.elevations - 1, round(share * (params.elevations - 1)))
    return range(number * params.azimuths, (number + 1) * params.azimuths)
