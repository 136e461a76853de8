"""Drawing of a shuttle: cork and skirt, smeared over the exposure."""

from __future__ import annotations

import math
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.badminton.picture.match_camera import CameraPose
from simulators.badminton.picture.person_drawing import PersonSprite

Floats = NDArray[np.float64]

LENGTH_M: Final = 0.085
_SKIRT_RADIUS_M: Final = 0.033
_CORK_RADIUS_M: Final = 0.0135
_FEATHERS: Final = (236, 244, 246)
_CORK: Final = (205, 222, 228)
_CIRCLE: Final = np.column_stack([f(np.linspace(0, 2 * math.pi, 12, endpoint=False)) for f in (np.cos, np.sin)])


def draw_shuttle(pose: CameraPose, path_m: Floats, heading_m: Floats) -> PersonSprite | None:
    """Draw a shuttle whose centre moves along ``path_m`` [K, 3] during the exposure; the cork is at ``heading_m``."""
    direction = heading_m / max(float(np.linalg.norm(heading_m)), 1e-9)
    tips, _ = pose.project(path_m + 0.5 * LENGTH_M * direction)
    tails, depth = pose.project(path_m - 0.5 * LENGTH_M * direction)
    if depth.min() < 0.3 or not np.isfinite(depth).all():
        return None
    scale = pose.focal_px / depth
    # Feathers of a shuttle far away still cover about a pixel.
    radius = np.maximum(_SKIRT_RADIUS_M * scale, 0.5)
    both = np.vstack([tips, tails])
    reach = float(radius.max()) + 2
    left, top = max(math.floor(both[:, 0].min() - reach), 0), max(math.floor(both[:, 1].min() - reach), 0)
    right = min(math.ceil(both[:, 0].max() + reach), pose.width_px)
    bottom = min(math.ceil(both[:, 1].max() + reach), pose.height_px)
    if right - left < 1 or bottom - top < 1:
        return None
    fine = 4 if radius.max() < 12 else 2
    total = np.zeros(((bottom - top) * fine, (right - left) * fine, 4), np.uint16)
    canvas = np.zeros(total.shape, np.uint8)
    for tip, tail, wide, one in zip(tips, tails, radius, scale, strict=True):
        canvas[:] = 0
        cork = max(_CORK_RADIUS_M * float(one), 0.35)
        skirt = np.vstack([tail + float(wide) * _CIRCLE, tip + cork * 0.7 * _CIRCLE])
        _fill(canvas, skirt, (left, top), fine, _FEATHERS)
        _fill(canvas, tip + cork * _CIRCLE, (left, top), fine, _CORK)
        total += canvas
    mean = cv2.resize(
        (total // len(path_m)).astype(np.uint8), (right - left, bottom - top), interpolation=cv2.INTER_AREA
    )
    return PersonSprite(np.asarray(mean), left, top)


def _fill(
    canvas: NDArray[np.uint8], points: Floats, corner: tuple[int, int], fine: int, colour: tuple[int, int, int]
) -> None:
    fixed = np.round(((points - corner + 0.5) * fine - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(canvas, cv2.convexHull(fixed), (*colour, 255), cv2.LINE_AA, 4)
