"""Flaws of a cheap camera: light, colour, blur, noise, JPEG, shake."""

from __future__ import annotations

from functools import cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.watch.canvas import Picture, Point

_BANK_PX: Final = 512


class CameraFlaws:
    """The flaws of one camera in one clip: the same light in every frame, new noise and shake in each."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        uniform = random.uniform
        gain = np.clip(uniform(0.8, 1.15) * (1 + uniform(-0.06, 0.06, 3)), 0.6, 1.3)
        self._table = np.clip(
            255 * ((np.arange(256)[:, None] / 255) ** uniform(0.85, 1.2)) * gain + uniform(-8, 8), 0, 255
        ).astype(np.uint8)[None]
        self._noise = uniform(0.0, 7.0)
        self._blur = uniform() < 0.25
        self._quality = int(uniform(45, 92)) if uniform() < 0.3 else 0
        self._shake = uniform(0.0, 0.004) if uniform() < 0.5 else 0.0

    def shake(self) -> Point:
        """Return how far the next frame is shifted, in widths of the picture."""
        dx, dy = self._random.normal(0, 1, 2) * self._shake
        return float(dx), float(dy)

    def apply(self, picture: Picture) -> Picture:
        """Return the picture with the flaws; the noise is that of the picture's own size."""
        picture = np.asarray(cv2.LUT(picture, self._table), np.uint8)
        if self._blur:
            picture = np.asarray(cv2.blur(picture, (2, 2)), np.uint8)
        if self._noise > 1:
            picture = self._noisy(picture)
        if self._quality:
            _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, self._quality))
            picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        return picture

    def _noisy(self, picture: Picture) -> Picture:
        height, width = picture.shape[:2]
        noise = _noise_bank()
        if height > _BANK_PX or width > _BANK_PX:
            noise = np.tile(noise, (height // _BANK_PX + 2, width // _BANK_PX + 2, 1))
        top = self._random.integers(noise.shape[0] - height + 1)
        left = self._random.integers(noise.shape[1] - width + 1)
        part = noise[top : top + height, left : left + width]
        return np.asarray(cv2.addWeighted(picture, 1.0, part, self._noise / 8, -16.0 * self._noise, dtype=cv2.CV_8U))


@cache
def _noise_bank() -> NDArray[np.uint8]:
    """Return noise of standard deviation 8 around 128."""
    values = np.random.default_rng(5).normal(128, 8, (_BANK_PX, _BANK_PX, 3))
    return np.clip(values, 0, 255).astype(np.uint8)
