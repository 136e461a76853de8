"""Drawing on a picture in units of its width, so that one scene can be drawn at any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.watch.names import Colour

Picture = NDArray[np.uint8]
Point = tuple[float, float]

#: Height of every picture in units of its width.
HEIGHT: Final = 0.75
_SHIFT: Final = 4


def shaded(colour: Colour, light: float) -> Colour:
    """Return a colour in brighter or darker light."""
    red, green, blue = (max(0, min(255, round(part * light))) for part in colour)
    return red, green, blue


def mixed(a: Colour, b: Colour, share: float) -> Colour:
    """Return the colour between two; ``share`` is that of ``b``."""
    red, green, blue = (round(p * (1 - share) + q * share) for p, q in zip(a, b, strict=True))
    return red, green, blue


class Canvas:
    """Draw filled shapes; x and y run from the upper left corner, the picture is 1 wide and 0.75 high."""

    def __init__(self, width_px: int, *, smooth: bool) -> None:
        self.picture: Picture = np.empty((round(width_px * HEIGHT), width_px, 3), np.uint8)
        self._scale = width_px * (1 << _SHIFT)
        self._width_px = width_px
        self._line = cv2.LINE_AA if smooth else cv2.LINE_8

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a convex polygon."""
        corners = np.array([(round(x * self._scale), round(y * self._scale)) for x, y in points], np.int32)
        cv2.fillConvexPoly(self.picture, corners, colour, self._line, _SHIFT)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Fill an upright rectangle."""
        self.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), colour)

    def ellipse(
        self, centre: Point, radii: Point, colour: Colour, *, width: float = 0.0, angle_deg: float = 0.0
    ) -> None:
        """Fill an ellipse, or draw its outline ``width`` thick."""
        thickness = max(1, round(width * self._width_px)) if width else -1
        middle = round(centre[0] * self._scale), round(centre[1] * self._scale)
        axes = max(1, round(radii[0] * self._scale)), max(1, round(radii[1] * self._scale))
        cv2.ellipse(self.picture, middle, axes, angle_deg, 0, 360, colour, thickness, self._line, _SHIFT)

    def line(self, start: Point, end: Point, colour: Colour, width: float) -> None:
        """Draw a thick line."""
        a = round(start[0] * self._scale), round(start[1] * self._scale)
        b = round(end[0] * self._scale), round(end[1] * self._scale)
        cv2.line(self.picture, a, b, colour, max(1, round(width * self._width_px)), self._line, _SHIFT)

    def rows(self, top: float, bottom: float, upper: Colour, lower: Colour) -> None:
        """Fill the rows between two heights with a gradient."""
        height = self.picture.shape[0]
        first, last = max(0, round(top * self._width_px)), min(height, round(bottom * self._width_px))
        if last <= first:
            return
        share = np.linspace(0, 1, last - first, dtype=np.float32)[:, None]
        rows = np.asarray(upper, np.float32) * (1 - share) + np.asarray(lower, np.float32) * share
        self.picture[first:last] = rows[:, None].astype(np.uint8)


def ease(share: float) -> float:
    """Return a share of a path that starts and ends slowly."""
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, share)))
