"""Fit of a homography to the lines of the full-size picture: Gauss-Newton on distances across the model's lines.

Every sample of the model looks for a bright line along its normal in the picture; the distances found are minimised
with weights that fall to zero for those that do not agree with the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import CENTRE_X_M, LINE_WIDTH_M, NET_Y_M
from modal_workers.badminton.court.homography import Floats, project
from modal_workers.badminton.court.line_model import LineSamples, line_samples

#: Distance between the samples of the model.
_STEP_M: Final = 0.12
#: A line is at least this much brighter than both sides, in grey levels and in the picture's noise.
_CONTRAST: Final = 5.0
_CONTRAST_NOISE: Final = 2.0
#: A line whose projected width is outside of this cannot be measured.
_WIDTH_PX: Final = (0.12, 40.0)
#: A sample agrees with the model when its line is this close, in pixels of a picture 1920 wide and in line widths.
_TOLERANCE_PX: Final = 2.0
_TOLERANCE_WIDTHS: Final = 0.35
#: A line farther from its sample than this is another line: the closest of the model are 0.46 m apart.
_REACH_WIDTHS: Final = 6.0
_DAMPING: Final = 1e-6


@dataclass(frozen=True, eq=False)
class LineFit:
    """A homography and how the lines of a picture agree with it."""

    image_from_court: Floats
    #: Medians over the samples at which a line was found.
    residual_px: float
    residual_m: float
    #: Share of the visible samples at which a line lies where it should.
    inlier_share: float
    #: Share of the model's samples that are inside the picture.
    visible_share: float
    #: Inlier share and visible share of each of the twelve lines; NaN where nothing of a line is visible.
    line_inliers: Floats
    line_visible: Floats


@dataclass(frozen=True, eq=False)
class _Measured:
    """Samples of the model in a picture: which are visible, where a line was found, and how far across it lies."""

    visible: NDArray[np.bool_]
    found: NDArray[np.bool_]
    offset_px: Floats
    normal: Floats
    point_px: Floats
    width_px: Floats


def fit_lines(
    grey: NDArray[np.uint8],
    image_from_court: Floats,
    *,
    radii_px: tuple[float, ...] = (8.0, 5.0, 3.0, 3.0),
    samples: LineSamples | None = None,
) -> LineFit:
    """Refine a homography on a picture's lines within each of the radii in turn, and measure the agreement."""
    samples = samples or line_samples(_STEP_M)
    contrast = max(_CONTRAST, _CONTRAST_NOISE * noise_of(grey))
    homography = image_from_court
    for radius in radii_px:
        measured = _measure(grey, homography, samples, radius, contrast)
        if measured.found.sum() < 20:
            break
        homography = _step(homography, samples, measured, radius)
    return _agreement(grey, homography, samples, contrast)


def noise_of(grey: NDArray[np.uint8]) -> float:
    """Return the standard deviation of a picture's noise, from its smooth parts."""
    return float(np.median(np.abs(cv2.Laplacian(grey[::2, ::2].astype(np.float32), cv2.CV_32F)))) / 0.6745 / 4.47


def _measure(
    grey: NDArray[np.uint8], homography: Floats, samples: LineSamples, radius_px: float, contrast: float
) -> _Measured:
    points, tangent, across_px = _projected(homography, samples)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    width_px = np.abs((across_px * normal).sum(axis=1)) * LINE_WIDTH_M
    height, width = grey.shape
    # A line at the very edge has no floor beside it.
    border = 2.0 + 1.5 * np.minimum(np.nan_to_num(width_px), _WIDTH_PX[1])
    depth = samples.places_m @ homography[2, :2] + homography[2, 2]
    with np.errstate(invalid="ignore"):
        visible = (
            (depth > 0)
            & (width_px < _WIDTH_PX[1])
            & (points > border[:, None]).all(axis=1)
            & (points[:, 0] < width - 1 - border)
            & (points[:, 1] < height - 1 - border)
        )
    offset = np.full(len(points), np.nan)
    found = np.zeros(len(points), bool)
    index = np.flatnonzero(visible & (width_px > _WIDTH_PX[0]))
    if len(index):
        best, strength = _nearest_ridge(grey, points[index], normal[index], width_px[index], radius_px)
        offset[index] = best
        reach = np.maximum(_REACH_WIDTHS * width_px[index], 2.5)
        found[index] = (strength > contrast) & (np.abs(best) < reach)
    return _Measured(visible, found, offset, normal, points, width_px)


def _projected(homography: Floats, samples: LineSamples) -> tuple[Floats, Floats, Floats]:
    """Return the samples' pixels, the unit directions of their lines, and pixels per metre across the lines."""
    points = project(homography, samples.places_m)
    depth = samples.places_m @ homography[2, :2] + homography[2, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        jacobian = (homography[None, :2, :2] - points[:, :, None] * homography[None, 2:, :2]) / depth[:, None, None]
        tangent = (jacobian @ samples.directions[:, :, None])[..., 0]
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        turned = np.stack([-samples.directions[:, 1], samples.directions[:, 0]], axis=1)
        across = (jacobian @ turned[:, :, None])[..., 0]
    return points, tangent, across


def _nearest_ridge(
    grey: NDArray[np.uint8], points: Floats, normal: Floats, width_px: Floats, radius_px: float
) -> tuple[Floats, Floats]:
    """Return how far along its normal each point's brightest line lies, and how much brighter than its sides it is."""
    half = np.clip(np.round(width_px), 1, 12).astype(int)
    reach = int(np.ceil(radius_px))
    margin = int(half.max() * 2) + 2
    steps = np.arange(-reach - margin, reach + margin + 1)
    places = points[:, None] + steps[None, :, None] * normal[:, None]
    profile = cv2.remap(
        grey,
        places[..., 0].astype(np.float32),
        places[..., 1].astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    ).astype(np.float64)
    total = np.concatenate([np.zeros((len(points), 1)), np.cumsum(profile, axis=1)], axis=1)
    # Half widths in samples: the line, and the floor beside it, each as wide as the line.
    inner = (half - 1) // 2
    candidates = np.arange(margin, margin + 2 * reach + 1)

    def mean(first: NDArray[Any], last: NDArray[Any]) -> Floats:
        value = np.take_along_axis(total, last + 1, axis=1) - np.take_along_axis(total, first, axis=1)
        return np.asarray(value / (last - first + 1))

    centre = np.broadcast_to(candidates, (len(points), len(candidates)))
    inside = inner[:, None]
    gap = half[:, None]
    beside = np.maximum(half[:, None] - 1, 0)
    line = mean(centre - inside, centre + inside)
    floor = np.maximum(
        mean(centre - inside - gap - beside // 2, centre - inside - 1 - beside // 2),
        mean(centre + inside + 1 + beside // 2, centre + inside + gap + beside // 2),
    )
    response = line - floor
    weighted = response * np.exp(-0.5 * (steps[candidates] / (0.8 * reach)) ** 2)
    best = np.clip(weighted.argmax(axis=1), 1, len(candidates) - 2)
    rows = np.arange(len(points))
    left, middle, right = (response[rows, best + shift] for shift in (-1, 0, 1))
    curvature = left - 2 * middle + right
    shift = np.where(curvature < -1e-6, 0.5 * (left - right) / np.minimum(curvature, -1e-6), 0.0)
    return steps[candidates][best] + np.clip(shift, -1, 1), middle


def _step(homography: Floats, samples: LineSamples, measured: _Measured, radius_px: float) -> Floats:
    """Return the homography after damped Gauss-Newton steps on one set of measured line centres."""
    use = measured.found
    targets = measured.point_px[use] + measured.offset_px[use, None] * measured.normal[use]
    normal = measured.normal[use]
    # Metres and pixels around 0 and of about 1, so that the equations are well conditioned.
    from_court = np.diag([1 / 6.7, 1 / 6.7, 1.0]) @ np.array([[1, 0, -CENTRE_X_M], [0, 1, -NET_Y_M], [0, 0, 1.0]])
    places = project(from_court, samples.places_m[use])
    mean, scale = targets.mean(axis=0), max(float(targets.std()), 1.0)
    to_picture = np.array([[1 / scale, 0, -mean[0] / scale], [0, 1 / scale, -mean[1] / scale], [0, 0, 1.0]])
    current = to_picture @ homography @ np.linalg.inv(from_court)
    current /= current[2, 2]
    goal = project(to_picture, targets)
    for _ in range(4):
        ones = np.column_stack([places, np.ones(len(places))])
        mapped = ones @ current.T
        picture = mapped[:, :2] / mapped[:, 2:]
        distance = ((goal - picture) * normal).sum(axis=1)
        spread = max(1.4826 * float(np.median(np.abs(distance))), 0.2 / scale)
        cut = min(4.0 * spread, 1.2 * radius_px / scale)
        weight = np.maximum(0.0, 1 - (distance / cut) ** 2) ** 2
        inverse = 1 / mapped[:, 2:]
        rows = np.concatenate(
            [
                normal[:, :1] * ones * inverse,
                normal[:, 1:] * ones * inverse,
                -(normal * picture).sum(axis=1)[:, None] * places * inverse,
            ],
            axis=1,
        )
        equations = rows.T @ (rows * weight[:, None])
        equations += _DAMPING * np.diag(np.diag(equations) + 1e-9)
        change = np.linalg.solve(equations, rows.T @ (weight * distance))
        current = current + np.append(change, 0.0).reshape(3, 3)
    refined = np.linalg.inv(to_picture) @ current @ from_court
    return np.asarray(refined * np.sign(refined[2] @ [CENTRE_X_M, NET_Y_M, 1.0]))


def _agreement(grey: NDArray[np.uint8], homography: Floats, samples: LineSamples, contrast: float) -> LineFit:
    scale = grey.shape[1] / 1920
    measured = _measure(grey, homography, samples, max(6.0 * scale, 3.0), contrast)
    tolerance = np.maximum(max(_TOLERANCE_PX * scale, 1.0), _TOLERANCE_WIDTHS * measured.width_px)
    with np.errstate(invalid="ignore"):
        inlier = measured.found & (np.abs(measured.offset_px) <= tolerance)
    count = len(np.unique(samples.lines))
    seen = np.bincount(samples.lines, measured.visible, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        line_inliers = np.where(seen > 0, np.bincount(samples.lines, inlier, count) / seen, np.nan)
    residual_px = residual_m = float("nan")
    if inlier.any():
        across = np.abs(measured.offset_px[inlier])
        residual_px = float(np.median(across))
        residual_m = float(np.median(across / measured.width_px[inlier])) * LINE_WIDTH_M
    return LineFit(
        homography,
        residual_px,
        residual_m,
        float(inlier.sum() / max(measured.visible.sum(), 1)),
        float(measured.visible.mean()),
        line_inliers,
        np.asarray(seen / np.bincount(samples.lines, minlength=count)),
    )
