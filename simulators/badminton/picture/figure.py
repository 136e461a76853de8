"""A person on a canvas: joints in pixels, and convex outlines filled with colour and alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.badminton.picture.looks import Colour, Look

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
Outline = NDArray[np.int32]

#: Outlines are in fixed point with this number of binary places.
SHIFT: Final = 4
CIRCLE: Final = np.column_stack([f(np.linspace(0, 2 * math.pi, 20, endpoint=False)) for f in (np.cos, np.sin)])
#: (share of the radius, shift towards the light as a share of it, brightness)
SHADES: Final = ((1.0, 0.0, 0.70), (0.80, 0.16, 0.94), (0.42, 0.30, 1.10))
_FINE_DETAIL_PX_PER_M: Final = 120


@dataclass(frozen=True, eq=False)
class Figure:
    """Joints of a person on a canvas [h, w, 4] of colour times alpha, and alpha."""

    canvas: Picture
    joints_m: Floats
    pixel: Floats
    depth: Floats
    focal_px: float
    look: Look

    @property
    def shades(self) -> tuple[tuple[float, float, float], ...]:
        """How limbs are shaded: with two of three tones where they are a few pixels wide."""
        return SHADES if self.focal_px > _FINE_DETAIL_PX_PER_M * self.depth.min() else SHADES[:2]

    def fill(self, outline: Outline, colour: Colour) -> None:
        """Fill a convex outline."""
        cv2.fillConvexPoly(self.canvas, outline, (*colour, 255), cv2.LINE_AA, SHIFT)


def fixed(points: Floats) -> Outline:
    """Return points in pixels as fixed point numbers."""
    return np.asarray(np.round(points * (1 << SHIFT)), np.int32)
