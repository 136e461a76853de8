"""Motion of the camera between two small pictures, and how much of the picture is another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.homography import Floats, project

#: Long side of a small picture.
SMALL_PX: Final = 320
_FEATURES: Final = 100
#: Features agree with a motion of the camera when they are this close to it; the players' do not.
_AGREEMENT_PX: Final = 0.7
_MIN_FEATURES: Final = 8
_BLOCK_PX: Final = 16
#: Mean difference of a block that is another one, in grey levels.
_CHANGED: Final = 11.0
#: Differences are taken between cells of a block, each the mean of its pixels.
_CELLS: Final = 4
#: Two pictures are the same when most pixels differ by less, and no more blocks have changed than this share.
_SAME_LEVELS: Final = 6
_SAME_SHARE: Final = 0.03
_BLACK_LEVEL: Final = 30
_BLACK_SPREAD: Final = 6.0

Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class PictureMotion:
    """Motion from one small picture to another."""

    #: 3x3 similarity of small pixels; the identity where the motion is unknown.
    matrix: Floats
    #: How far the outer parts of the picture move, in small pixels; NaN where the motion is unknown.
    displacement_px: float

    @property
    def known(self) -> bool:
        """Whether enough of the picture agrees on a motion."""
        return not np.isnan(self.displacement_px)

    def exceeds(self, limit_px: float) -> bool:
        """Return whether the picture moves by more, or in a way that cannot be followed."""
        return not self.displacement_px <= limit_px


def is_black(small: Grey) -> bool:
    """Return whether a small picture shows nothing."""
    return bool(np.percentile(small, 98) < _BLACK_LEVEL and small.std() < _BLACK_SPREAD)


def features_of(small: Grey) -> NDArray[np.float32]:
    """Return places (n, 1, 2) that can be followed, spread over the picture: players must not have most of them."""
    found = cv2.goodFeaturesToTrack(small, _FEATURES, 0.01, 12, blockSize=5)
    return np.zeros((0, 1, 2), np.float32) if found is None else np.asarray(found, np.float32)


def motion_between(before: Grey, after: Grey, features: NDArray[np.float32] | None = None) -> PictureMotion:
    """Return the motion of what most features of ``before`` agree on: the background.

    A picture without features that does not change has no motion.
    """
    features = features_of(before) if features is None else features
    if len(features) >= _MIN_FEATURES:
        followed, found, _ = cv2.calcOpticalFlowPyrLK(
            before, after, features, np.zeros_like(features), winSize=(15, 15), maxLevel=3
        )
        good = np.asarray(found).ravel() == 1
        matrix = _agreed(features[good, 0], np.asarray(followed, np.float32)[good, 0])
        if matrix is not None:
            return PictureMotion(matrix, _displacement(matrix, before.shape))
    same = np.median(cv2.absdiff(before, after)) < _SAME_LEVELS and changed_share(before, after) < _SAME_SHARE
    return PictureMotion(np.eye(3), 0.0 if same else float("nan"))


def _agreed(before: NDArray[np.float32], after: NDArray[np.float32]) -> Floats | None:
    """Return the similarity on which enough of the points agree; the standstill comes first, as it is the rule."""
    enough = max(_MIN_FEATURES, 0.35 * len(before))
    if len(before) < enough:
        return None
    resting = np.linalg.norm(after - before, axis=1) < _AGREEMENT_PX
    estimated, agree = cv2.estimateAffinePartial2D(
        before, after, method=cv2.RANSAC, ransacReprojThreshold=_AGREEMENT_PX
    )
    moving = 0 if estimated is None else int(np.asarray(agree).sum())
    if resting.sum() >= max(enough, 0.7 * moving):
        return _similarity(before[resting].astype(float), after[resting].astype(float))
    return np.vstack([estimated, [0, 0, 1.0]]) if moving >= enough else None


def _similarity(before: Floats, after: Floats) -> Floats:
    """Return the least-squares similarity of pairs of points."""
    middle = before.mean(axis=0)
    x, y = (before - middle).T
    zeros, ones = np.zeros_like(x), np.ones_like(x)
    rows = np.concatenate([np.stack([x, -y, ones, zeros], axis=1), np.stack([y, x, zeros, ones], axis=1)])
    moved = after - before
    a, b, right, down = np.linalg.lstsq(rows, np.concatenate([moved[:, 0], moved[:, 1]]), rcond=None)[0]
    turned = np.array([[1 + a, -b], [b, 1 + a]])
    shift = middle + np.array([right, down]) - turned @ middle
    return np.array([[*turned[0], shift[0]], [*turned[1], shift[1]], [0, 0, 1.0]])


def _displacement(matrix: Floats, shape: tuple[int, ...]) -> float:
    """Return how far the motion takes the farthest of points between the picture's centre and its corners."""
    height, width = shape
    shares = np.array([[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]])
    points = shares * (width, height)
    return float(np.linalg.norm(project(matrix, points) - points, axis=1).max())


def changed_share(before: Grey, after: Grey, matrix: Floats | None = None) -> float:
    """Return the share of the picture that is another one, apart from the camera's motion and the exposure."""
    height, width = before.shape
    first = before
    valid = np.full_like(before, 255)
    if matrix is not None:
        first = np.asarray(cv2.warpAffine(before, matrix[:2], (width, height)), np.uint8)
        valid = np.asarray(cv2.warpAffine(valid, matrix[:2], (width, height)), np.uint8)
    size = (width // _BLOCK_PX * _CELLS, height // _BLOCK_PX * _CELLS)
    old, new, known = (
        np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float32)
        for picture in (first, after, valid)
    )
    inside = known > 250
    if inside.mean() < 0.3:
        return 1.0
    gain = float(np.clip(new[inside].std() / max(float(old[inside].std()), 1.0), 0.6, 1.6))
    # The median, and not the mean: what is new in the picture does not change the exposure of the rest.
    offset = float(np.median(new[inside] - gain * old[inside]))
    difference = np.where(inside, np.abs(new - gain * old - offset), 0.0)
    rows, columns = size[1] // _CELLS, size[0] // _CELLS
    blocks = difference.reshape(rows, _CELLS, columns, _CELLS).mean(axis=(1, 3))
    counted = inside.reshape(rows, _CELLS, columns, _CELLS).mean(axis=(1, 3)) > 0.8
    return float((blocks[counted] > _CHANGED).mean()) if counted.any() else 1.0


def in_full_picture(size: tuple[int, int], full_size: tuple[int, int]) -> Floats:
    """Return the homography from pixels of a scaled picture to those of the full one; (0, 0) is a pixel's centre."""
    horizontal, vertical = full_size[0] / size[0], full_size[1] / size[1]
    return np.array([[horizontal, 0, (horizontal - 1) / 2], [0, vertical, (vertical - 1) / 2], [0, 0, 1.0]])


def in_picture(matrix: Floats, small_size: tuple[int, int], full_size: tuple[int, int]) -> Floats:
    """Return a motion of small pixels as one of the full picture's pixels."""
    to_full = in_full_picture(small_size, full_size)
    return np.asarray(to_full @ matrix @ np.linalg.inv(to_full))
