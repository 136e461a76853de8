"""Where a shape in a picture ends, and how far from there a pixel is: what alpha is judged by."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]


def outline(covered: Flags) -> Flags:
    """Give the pixels of a shape [H, W] that are at its edge."""
    inner = cv2.erode(covered.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    return np.asarray(covered & (inner == 0))


def distance_px(edge: Flags) -> NDArray[np.float32]:
    """Give how far each pixel [H, W] is from an outline; infinitely where there is none."""
    if not edge.any():
        return np.full(edge.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5), np.float32)
