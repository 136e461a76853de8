"""Outlines of shapes in images, and distances from them: the measure of alpha."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def outline(shape: Bools) -> Bools:
    """Return the edge pixels of a shape [H, W]."""
    inner = cv2.erode(shape.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0)
    return np.asarray(shape & (inner == 0))


def distance_px(edge: Bools) -> NDArray[np.float32]:
    """Return the distance of each pixel [H, W] from an outline; infinite where there is none."""
    if not edge.any():
        return np.full(edge.shape, np.inf, np.float32)
    return np.asarray(cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, 5), np.float32)
