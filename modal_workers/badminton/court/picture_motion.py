"""Motion of the camera between two small pictures, and how much of the picture is another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import Floats, project

#: Long side of a small picture.
SMALL_PX: Final = 160
_FEATURES: Final = 90
#: Features agree with a motion of the camera when they are this close to it; the players' do not.
_AGREEMENT_PX: Final = 0.4
_MIN_FEATURES: Final = 8
_BLOCK_PX: Final = 8
#: Mean difference of a block that is another one, in grey levels.
_CHANGED: Final = 11.0
_BLACK_LEVEL: Final = 30
_BLACK_SPREAD: Final = 6.0

Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureMotion:
    """Motion from one small picture to another."""

    #: 3x3 similarity of small pixels; the identity where nothing could be followed.
    matrix: Floats
    #: How far the farthest corner of the picture moves, in small pixels.
    displacement_px: float
    #: Whether enough of the picture agrees with the motion.
    reliable: bool


def small_picture(picture: NDArray[np.uint8]) -> Grey:
    """Return a picture (grey or BGR) as grey with a long side of ``SMALL_PX``."""
    height, width = picture.shape[:2]
    scale = SMALL_PX / max(height, width)
    size = (max(16, round(width * scale)), max(16, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def is_black(small: Grey) -> bool:
    """Return whether a small picture shows nothing."""
    return bool(np.percentile(small, 98) < _BLACK_LEVEL and small.std() < _BLACK_SPREAD)


def features_of(small: Grey) -> NDArray[np.float32]:
    """Return places (n, 1, 2) that can be followed."""
    found = cv2.goodFeaturesToTrack(small, _FEATURES, 0.02, 4, blockSize=5)
    return np.zeros((0, 1, 2), np.float32) if found is None else np.asarray(found, np.float32)


def motion_between(before: Grey, after: Grey, features: NDArray[np.float32] | None = None) -> PictureMotion:
    """Return the motion of what most features of ``before`` agree on: the background."""
    still = PictureMotion(np.eye(3), 0.0, reliable=False)
    features = features_of(before) if features is None else features
    if len(features) < _MIN_FEATURES:
        return still
    followed, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, features, np.zeros_like(features), winSize=(15, 15), maxLevel=3
    )
    good = np.asarray(found).ravel() == 1
    if good.sum() < _MIN_FEATURES:
        return still
    estimated, agree = cv2.estimateAffinePartial2D(
        features[good], np.asarray(followed)[good], method=cv2.RANSAC, ransacReprojThreshold=_AGREEMENT_PX
    )
    if estimated is None or np.asarray(agree).sum() < max(_MIN_FEATURES, 0.35 * good.sum()):
        return still
    matrix = np.vstack([estimated, [0, 0, 1.0]])
    height, width = before.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], float)
    displacement = float(np.linalg.norm(project(matrix, corners) - corners, axis=1).max())
    return PictureMotion(matrix, displacement, reliable=True)


def changed_share(before: Grey, after: Grey, matrix: Floats | None = None) -> float:
    """Return the share of the picture that is another one, apart from the camera's motion and the exposure."""
    height, width = before.shape
    first = before.astype(np.float32)
    valid = np.ones_like(first)
    if matrix is not None:
        first = np.asarray(cv2.warpAffine(first, matrix[:2], (width, height)), np.float32)
        valid = np.asarray(cv2.warpAffine(valid, matrix[:2], (width, height)), np.float32)
    second = after.astype(np.float32)
    inside = valid > 0.99
    if inside.mean() < 0.3:
        return 1.0
    gain = float(np.clip(second[inside].std() / max(float(first[inside].std()), 1.0), 0.6, 1.6))
    # The median, and not the mean: what is new in the picture does not change the exposure of the rest.
    offset = float(np.median(second[inside] - gain * first[inside]))
    difference = np.where(inside, np.abs(second - gain * first - offset), 0.0)
    rows, columns = height // _BLOCK_PX, width // _BLOCK_PX
    size = (columns, rows)
    blocks = cv2.resize(difference.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    known = cv2.resize(inside.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.8
    return float((np.asarray(blocks)[known] > _CHANGED).mean()) if known.any() else 1.0


def in_picture(matrix: Floats, small_size: tuple[int, int], full_size: tuple[int, int]) -> Floats:
    """Return a motion of small pixels as one of a larger picture's pixels; (0, 0) is a pixel's centre in both."""
    horizontal, vertical = full_size[0] / small_size[0], full_size[1] / small_size[1]
    to_full = np.array([[horizontal, 0, (horizontal - 1) / 2], [0, vertical, (vertical - 1) / 2], [0, 0, 1.0]])
    return np.asarray(to_full @ matrix @ np.linalg.inv(to_full))
