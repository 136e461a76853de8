"""Imperfections of a sensor: exposure that varies, and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.badminton.match_options import MatchOptions

Picture = NDArray[np.uint8]

_TILE_PX = 64


class Sensor:
    """The imperfections of one camera; frames have to be given in their order."""

    def __init__(self, options: MatchOptions) -> None:
        """Prepare the noise: one large picture of it, of which each frame takes another part."""
        self._options = options
        self._random = np.random.default_rng([options.seed, 53])
        shape = (options.height_px + _TILE_PX, options.width_px + _TILE_PX)
        # Blue and red are noisier than green.
        grain = self._random.standard_normal((*shape, 3), np.float32) * np.array([1.0, 0.8, 1.1], np.float32)
        grain *= options.noise
        self._lighter = np.clip(grain, 0, 255).round().astype(np.uint8)
        self._darker = np.clip(-grain, 0, 255).round().astype(np.uint8)
        self._phase = self._random.uniform(0, 2 * np.pi, 3)
        # White balance and contrast of this camera.
        balance = 1 + options.exposure_variation * self._random.uniform(-1.2, 1.2, 3)
        contrast = 1 + 2 * options.exposure_variation * float(self._random.uniform(-1, 1))
        self._tone = 255 * (np.arange(256)[:, None] / 255) ** contrast * balance

    def expose(self, frame: Picture, time_s: float) -> Picture:
        """Return the frame [H, W, 3] as the sensor records it."""
        vary = self._options.exposure_variation
        if vary:
            turn, phase = 2 * np.pi * time_s, self._phase
            slow = np.sin(turn / 11.0 + phase[0]) + 0.5 * np.sin(turn / 3.7 + phase[1])
            gain = 1 + vary * slow / 1.5 + 0.006 * np.sin(turn * 100.0 + phase[2])
            table = np.clip(self._tone * float(gain), 0, 255).astype(np.uint8)
            frame = np.asarray(cv2.LUT(frame, table[None]), np.uint8)
        if self._options.noise > 0:
            x, y = self._random.integers(0, _TILE_PX, 2)
            rows, columns = slice(y, y + frame.shape[0]), slice(x, x + frame.shape[1])
            frame = np.asarray(cv2.subtract(cv2.add(frame, self._lighter[rows, columns]), self._darker[rows, columns]))
        return frame
