"""Correction for a differently mounted camera of clip B: one warp of its frames, used only if the cost falls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import Picture, VideoReader
from modal_workers.lap_compare.clips.descriptors import (
    CELLS,
    DIRECTIONS,
    LOWER_EDGE,
    THUMBNAIL_PX,
    Values,
    compute_descriptor,
    normalised,
)
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures

Matrix = NDArray[np.float64]
Points = NDArray[np.float32]

SAMPLED_PLACES: Final = 28
#: A warp that moves no corner by more than this share of the width is not applied.
MIN_SHIFT: Final = 0.012
MAX_SHIFT: Final = 0.35
#: A warp is tried on the whole clip if it lowers the cost of the matched pairs to below this share.
MAX_PAIR_COST_RATIO: Final = 0.97
#: Focal lengths of A's camera that are tried, in widths of the frame: a wide action camera to a phone.
FOCAL_LENGTHS_A: Final = (0.5, 0.65, 0.8, 1.0, 1.3)
#: Matches further than this from a fit lose weight, px.
HUBER_PX: Final = 1.0
CENTRE_PX: Final = (np.array(THUMBNAIL_PX) - 1) / 2


@dataclass(frozen=True)
class MountCorrection:
    """A correction: ``warp`` [3, 3] maps pixels of A's frame to B's; ``shift`` is its largest corner shift."""

    warp: Matrix
    shift: float
    pair_cost_before: float
    pair_cost_after: float


def frames_at(clip: ClipFeatures, times_s: Sequence[float], check: Callable[[], None]) -> list[Picture]:
    """Return the thumbnails nearest to sorted times; fewer if the clip ends early."""
    if clip.thumbnails is not None:
        return list(clip.thumbnails.at(times_s))
    reader = VideoReader(clip.path, clip.clip.filename, width_px=THUMBNAIL_PX[0], height_px=THUMBNAIL_PX[1])
    pictures = []
    for frame in reader.frames(wanted_s=times_s):
        check()
        pictures.append(frame.grey)
    return pictures


def estimate_mount(pictures_a: Sequence[Picture], pictures_b: Sequence[Picture]) -> MountCorrection | None:
    """Estimate the correction from frames of the same places; None if no warp lowers their cost.

    ORB features are matched pair by pair and pooled, so that one warp must explain all places (RANSAC). A rotation with
    zoom, a similarity, an affine map and a homography compete by the cost of the pairs; each must lower it clearly to
    replace the one before it. The first is what a turned camera does: a similarity leaves out its perspective, which
    shifts the matched places of the whole lap to one side.
    """
    pairs = list(zip(pictures_a, pictures_b, strict=False))
    matched = [match_features(a, b) for a, b in pairs]
    points_a = np.concatenate([m[0] for m in matched]) if matched else np.empty((0, 2), np.float32)
    points_b = np.concatenate([m[1] for m in matched]) if matched else np.empty((0, 2), np.float32)
    if len(points_a) < 40:
        return None
    before = _pair_cost(pairs, np.eye(3))
    best: MountCorrection | None = None
    for warp in _candidates(points_a, points_b):
        if not is_plausible(warp):
            continue
        after = _pair_cost(pairs, warp)
        limit = best.pair_cost_after * 0.985 if best else before * MAX_PAIR_COST_RATIO
        if after < limit:
            best = MountCorrection(warp, corner_shift(warp), before, after)
    return best


def _candidates(points_a: Points, points_b: Points) -> list[Matrix]:
    found: list[Matrix] = []
    for fit in (cv2.estimateAffinePartial2D, cv2.estimateAffine2D):
        affine, inliers = fit(points_a, points_b, method=cv2.RANSAC, ransacReprojThreshold=3.0, maxIters=5000)
        if affine is not None and int(inliers.sum()) >= 30:
            found.append(np.vstack([affine, [0, 0, 1]]))
    homography, inliers = cv2.findHomography(points_a, points_b, cv2.RANSAC, 3.0, maxIters=5000)
    if homography is not None and int(inliers.sum()) >= 40:
        found.append(np.asarray(homography))
        static = inliers.ravel() > 0
        found.insert(0, fit_rotation(points_a[static], points_b[static]))
    return found


def fit_rotation(points_a: Points, points_b: Points) -> Matrix:
    """Fit the homography [3, 3] of a camera that is turned and zoomed, to matched pixels [K, 2] of thumbnails.

    Minimises the reprojection error with Huber weights (Gauss-Newton over three angles and the logarithm of the zoom)
    for each of ``FOCAL_LENGTHS_A``; the best of them is returned. Source: Hartley and Zisserman 2004, section 8.4.
    """
    fits = [_fit_rotation(points_a, points_b, focal * THUMBNAIL_PX[0]) for focal in FOCAL_LENGTHS_A]
    return min(fits, key=lambda fit: fit[1])[0]


def _fit_rotation(points_a: Points, points_b: Points, focal_a_px: float) -> tuple[Matrix, float]:
    """Return the homography for one focal length of A, and its Huber loss."""
    centred = (points_a - CENTRE_PX) / focal_a_px
    rays = np.concatenate([centred, np.ones((len(centred), 1))], axis=1).astype(np.float64)

    def errors_px(parameters: Matrix) -> Matrix:
        turned = rays @ np.asarray(cv2.Rodrigues(parameters[:3])[0]).T
        projected = turned[:, :2] / turned[:, 2:] * (focal_a_px * np.exp(parameters[3])) + CENTRE_PX
        return np.asarray((projected - points_b).ravel())

    parameters = np.zeros(4)
    for _ in range(15):
        error = errors_px(parameters)
        weight = np.minimum(1.0, HUBER_PX / np.maximum(np.abs(error), 1e-9))
        jacobian = np.stack([(errors_px(parameters + step) - error) / 1e-6 for step in 1e-6 * np.eye(4)], axis=1)
        weighted = jacobian * weight[:, None]
        parameters -= np.linalg.lstsq(weighted.T @ jacobian, weighted.T @ error, rcond=None)[0]
    size = np.abs(errors_px(parameters))
    loss = float(np.mean(np.where(size < HUBER_PX, 0.5 * size**2, HUBER_PX * (size - 0.5 * HUBER_PX))))
    focal_b_px = focal_a_px * np.exp(parameters[3])
    warp = intrinsics(focal_b_px) @ cv2.Rodrigues(parameters[:3])[0] @ np.linalg.inv(intrinsics(focal_a_px))
    return np.asarray(warp / warp[2, 2]), loss


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


def _pair_cost(pairs: Sequence[tuple[Picture, Picture]], warp: Matrix) -> float:
    """Return the median cost of pairs under a warp, after subtracting the mean of each clip."""
    mask = coverage_mask(warp)
    a = np.stack([compute_descriptor(a) for a, _ in pairs]).astype(np.float32) * mask
    b = np.stack([compute_descriptor(b, warp) for _, b in pairs]).astype(np.float32) * mask
    a, b = normalised(a - a.mean(axis=0)), normalised(b - b.mean(axis=0))
    return float(np.median(1 - np.sum(a * b, axis=1)))


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
