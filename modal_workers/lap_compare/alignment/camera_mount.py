"""Correction for a differently mounted camera of clip B: one warp of its frames, used only if the cost falls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import Picture, VideoReader
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.road_video.descriptors import (
    CELLS,
    DIRECTIONS,
    LOWER_EDGE,
    THUMBNAIL_PX,
    Values,
)

Matrix = NDArray[np.float64]
Points = NDArray[np.float32]

SAMPLED_PLACES: Final = 28
#: A warp that moves no corner by more than this share of the width is not applied.
MIN_SHIFT: Final = 0.012
MAX_SHIFT: Final = 0.35
#: Focal lengths of A's camera that are tried, in widths of the frame: a wide action camera to a phone.
FOCAL_LENGTHS_A: Final = (0.5, 0.65, 0.8, 1.0, 1.3)
CENTRE_PX: Final = (np.array(THUMBNAIL_PX) - 1) / 2


def frames_at(clip: ClipFeatures, times_s: Sequence[float], check: Callable[[], None]) -> list[Picture]:
    """Return thumbnails at sorted times; fewer if the clip ends early.

    Those kept on disk that are nearest; in a resumed run, which has none, the file's first frames at or after.
    """
    if clip.thumbnails is not None:
        return list(clip.thumbnails.at(times_s))
    reader = VideoReader(clip.path, clip.clip.filename, width_px=THUMBNAIL_PX[0], height_px=THUMBNAIL_PX[1])
    pictures = []
    for frame in reader.frames(wanted_s=times_s):
        check()
        pictures.append(frame.grey)
    return pictures


def intrinsics(focal_px: float) -> Matrix:
    """Return the matrix [3, 3] of a pinhole camera of thumbnails."""
    return np.array([[focal_px, 0, CENTRE_PX[0]], [0, focal_px, CENTRE_PX[1]], [0, 0, 1]])


def match_features(a: Picture, b: Picture) -> tuple[Points, Points]:
    """Match ORB features of two frames: [K, 2] and [K, 2]. The lower part, which shows the car itself, is left out."""
    orb = cv2.ORB.create(700, fastThreshold=10)
    mask = np.zeros(a.shape, np.uint8)
    mask[: int(a.shape[0] * 0.78)] = 255
    equal_a, equal_b = cv2.equalizeHist(a), cv2.equalizeHist(b)
    keys_a, words_a = orb.detectAndCompute(equal_a, mask)
    keys_b, words_b = orb.detectAndCompute(equal_b, mask)
    empty = np.empty((0, 2), np.float32)
    if words_a is None or words_b is None or len(keys_a) < 8 or len(keys_b) < 8:
        return empty, empty
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words_a, words_b)
    good = sorted(matches, key=lambda match: match.distance)[:120]
    points_a = np.array([keys_a[m.queryIdx].pt for m in good if m.distance < 64], np.float32).reshape(-1, 2)
    points_b = np.array([keys_b[m.trainIdx].pt for m in good if m.distance < 64], np.float32).reshape(-1, 2)
    return points_a, points_b


def corner_shift(warp: Matrix, other: Matrix | None = None) -> float:
    """Return the largest distance of a corner of the frame under a warp from that under another, in widths.

    Without ``other`` the corner's own position is meant.
    """
    width, height = THUMBNAIL_PX
    corners = np.array([[[0, 0]], [[width, 0]], [[width, height]], [[0, height]]], np.float32)
    reference = corners if other is None else cv2.perspectiveTransform(corners, other)
    return float(np.max(np.linalg.norm(cv2.perspectiveTransform(corners, warp) - reference, axis=-1)) / width)


def is_plausible(warp: Matrix) -> bool:
    """Return whether a warp is worth applying, and small enough that both cameras still see the same."""
    return MIN_SHIFT <= corner_shift(warp) <= MAX_SHIFT


def coverage_mask(warp: Matrix) -> Values:
    """Return 1 for descriptor entries [LENGTH] whose cell B's frame covers under a warp, else 0."""
    ones = np.full(THUMBNAIL_PX[::-1], 255, np.uint8)
    seen = cv2.warpPerspective(ones, warp, THUMBNAIL_PX, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    upper = np.asarray(seen[: int(THUMBNAIL_PX[1] * LOWER_EDGE)])
    share = np.asarray(cv2.resize(upper, CELLS, interpolation=cv2.INTER_AREA)) / 255
    return np.repeat((share > 0.6).astype(np.float32).ravel(), DIRECTIONS)
