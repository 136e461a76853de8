"""The court from points that the user gives: the four corners and up to eight more, checked before they are believed.

The names are those of the replaced system, in which "near" is the half at the top of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.court.candidates import best_candidate
from modal_workers.badminton.court.detection import (
    MIN_INLIER_SHARE,
    Picture,
    median_grey,
    refusal_of,
)
from modal_workers.badminton.court.dimensions import (
    CENTRE_X_M,
    COURT_LENGTH_M,
    COURT_WIDTH_M,
    CROSS_LINES_Y_M,
    NET_Y_M,
)
from modal_workers.badminton.court.homography import CourtView, Floats, project
from modal_workers.badminton.court.line_model import line_samples
from modal_workers.badminton.court.refinement import LineFit, fit_lines

#: In the order in which they go round the court, clockwise in the picture.
CORNERS: Final = {
    "top_left": (0.0, 0.0),
    "top_right": (COURT_WIDTH_M, 0.0),
    "bottom_right": (COURT_WIDTH_M, COURT_LENGTH_M),
    "bottom_left": (0.0, COURT_LENGTH_M),
}
#: Names of all points, and where they are on the court in metres.
KEYPOINTS_M: Final[Mapping[str, tuple[float, float]]] = CORNERS | {
    "net_left": (0.0, NET_Y_M),
    "net_right": (COURT_WIDTH_M, NET_Y_M),
    "service_line_near_left": (0.0, CROSS_LINES_Y_M[2]),
    "service_line_near_right": (COURT_WIDTH_M, CROSS_LINES_Y_M[2]),
    "service_line_far_left": (0.0, CROSS_LINES_Y_M[3]),
    "service_line_far_right": (COURT_WIDTH_M, CROSS_LINES_Y_M[3]),
    "center_near": (CENTRE_X_M, CROSS_LINES_Y_M[2]),
    "center_far": (CENTRE_X_M, CROSS_LINES_Y_M[3]),
}
#: A click on the picture's border may be this far outside, as a share of the width.
_BORDER_SHARE: Final = 0.01
#: Three corners on one line: the middle one is closer to it than this share of the width.
_FLAT_SHARE: Final = 0.004
#: A point that contradicts the others by more than this share of the width, and in metres on the court, is wrong.
_CONTRADICTION_SHARE: Final = 0.025
_CONTRADICTION_M: Final = 0.6
#: Clicks are this inexact at most, as a share of the court's extent in the picture: the lines move them no farther.
_CLICK_SHARE: Final = 0.03
#: Search radii for the lines around a court drawn by hand, in pixels of a picture 1920 wide.
_RADII_PX: Final = (24.0, 16.0, 8.0, 4.0, 3.0)


def court_from_keypoints(
    keypoints: Mapping[str, tuple[float, float]],
    picture_size: tuple[int, int],
    pictures: Sequence[Picture] | None = None,
) -> CourtView:
    """Return the court through named pixels of a picture (width, height); with pictures, refined where lines agree.

    Raises:
        SaccadeError: ``court_keypoints_invalid``; its message and its extra ``point`` and ``reason`` say which point
            is wrong and why.
    """
    _check_names(keypoints)
    _check_places(keypoints, picture_size)
    _check_corners(keypoints, picture_size[0])
    homography = homography_from_points(
        np.array([KEYPOINTS_M[name] for name in keypoints]), np.array([keypoints[name] for name in keypoints], float)
    )
    _check_agreement(keypoints, homography, picture_size[0])
    given = _as_given(homography, keypoints, picture_size)
    return _refined(given, pictures) if pictures else given


def homography_from_points(places_m: Floats, points_px: Floats) -> Floats:
    """Return the homography of four or more pairs of points, by the normalised direct linear transform (Hartley)."""
    from_court, from_picture = _normalising(places_m), _normalising(points_px)
    places, points = project(from_court, places_m), project(from_picture, points_px)
    ones, zeros = np.ones((len(places), 1)), np.zeros((len(places), 3))
    homogeneous = np.concatenate([places, ones], axis=1)
    rows = np.concatenate(
        [
            np.concatenate([homogeneous, zeros, -points[:, :1] * homogeneous], axis=1),
            np.concatenate([zeros, homogeneous, -points[:, 1:] * homogeneous], axis=1),
        ]
    )
    _, _, directions = np.linalg.svd(rows)
    homography = np.linalg.inv(from_picture) @ directions[-1].reshape(3, 3) @ from_court
    depth = float(homography[2] @ np.append(places_m.mean(axis=0), 1.0))
    return np.asarray(homography * np.sign(depth) / np.linalg.norm(homography[:, 2]))


def _normalising(points: Floats) -> Floats:
    """Return the similarity that puts the centre of points at 0 and their mean distance from it at √2."""
    centre = points.mean(axis=0)
    scale = np.sqrt(2) / max(float(np.linalg.norm(points - centre, axis=1).mean()), 1e-12)
    return np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1.0]])


def _invalid(reason: str, message: str, point: str = "") -> SaccadeError:
    return SaccadeError(ErrorCode.COURT_KEYPOINTS_INVALID, message, point=point, reason=reason)


def _check_names(keypoints: Mapping[str, tuple[float, float]]) -> None:
    for name in keypoints:
        if name not in KEYPOINTS_M:
            raise _invalid("unknown", f"There is no point {name!r}; there are: {', '.join(KEYPOINTS_M)}.", name)
    for name in CORNERS:
        if name not in keypoints:
            raise _invalid("missing", f"The corner {name} is missing; all four are needed.", name)


def _check_places(keypoints: Mapping[str, tuple[float, float]], picture_size: tuple[int, int]) -> None:
    border = _BORDER_SHARE * picture_size[0]
    for name, point in keypoints.items():
        if not np.isfinite(point).all():
            raise _invalid("not_finite", f"The point {name} is not a pair of finite numbers.", name)
        inside = all(-border <= value <= size - 1 + border for value, size in zip(point, picture_size, strict=True))
        if not inside:
            text = f"The point {name} at ({point[0]:.0f}, {point[1]:.0f}) is outside of the picture"
            raise _invalid("outside", f"{text}, which is {picture_size[0]} × {picture_size[1]} pixels.", name)
    names = list(keypoints)
    for number, name in enumerate(names):
        for other in names[:number]:
            if np.hypot(*np.subtract(keypoints[name], keypoints[other])) < 1.0:
                raise _invalid("coincident", f"The points {other} and {name} are at the same place.", name)


def _check_corners(keypoints: Mapping[str, tuple[float, float]], width_px: int) -> None:
    names = list(CORNERS)
    corners = np.array([keypoints[name] for name in names], float)
    before, after = np.roll(corners, 1, axis=0), np.roll(corners, -1, axis=0)
    into, out_of = corners - before, after - corners
    turns = into[:, 0] * out_of[:, 1] - into[:, 1] * out_of[:, 0]
    distance = np.abs(turns) / np.maximum(np.linalg.norm(after - before, axis=1), 1e-9)
    if distance.min() < _FLAT_SHARE * width_px:
        name = names[int(distance.argmin())]
        raise _invalid("collinear", f"The corner {name} lies on a line with its two neighbours.", name)
    if (turns < 0).all():
        raise _invalid(
            "mirrored", "The corners go round the court in the wrong direction: left and right are exchanged."
        )
    if (turns < 0).sum() == 2:
        raise _invalid("crossed", "Two sides of the court cross: two neighbouring corners are exchanged.")
    if (turns < 0).any():
        # One reflex corner, or one corner that makes the other three turn the wrong way.
        odd = int((turns < 0).argmax()) if (turns < 0).sum() == 1 else int((turns > 0).argmax())
        raise _invalid("not_convex", f"The corner {names[odd]} lies between the others.", names[odd])
    if corners[:2, 1].mean() >= corners[2:, 1].mean():
        raise _invalid("upside_down", "The corners top_left and top_right lie below the others: they are the far ones.")


def _check_agreement(keypoints: Mapping[str, tuple[float, float]], homography: Floats, width_px: int) -> None:
    """Raise if one of more than four points contradicts the others; which one is found by leaving each out in turn."""
    if len(keypoints) == len(CORNERS):
        return
    names = list(keypoints)
    places = np.array([KEYPOINTS_M[name] for name in names])
    points = np.array([keypoints[name] for name in names], float)
    if _contradiction(homography, places, points, width_px).max() <= 1:
        return
    left_out = []
    for number in range(len(names)):
        others = np.arange(len(names)) != number
        fitted = homography_from_points(places[others], points[others])
        left_out.append(_contradiction(fitted, places[others], points[others], width_px).max())
    name = names[int(np.argmin(left_out))]
    if min(left_out) <= 1 and len(names) > len(CORNERS) + 1:
        raise _invalid("contradiction", f"The point {name} is not where the other points put it.", name)
    raise _invalid("contradiction", "The points contradict each other: no court has all of them.")


def _contradiction(homography: Floats, places_m: Floats, points_px: Floats, width_px: int) -> Floats:
    """Return every point's distance from where the homography puts it, 1 at the limit."""
    in_picture = np.linalg.norm(project(homography, places_m) - points_px, axis=1) / (_CONTRADICTION_SHARE * width_px)
    inverse: Floats = np.linalg.inv(homography).astype(np.float64)
    on_court = np.linalg.norm(project(inverse, points_px) - places_m, axis=1) / _CONTRADICTION_M
    # Far away a pixel is decimetres, and close to the camera a decimetre is many pixels: both have to be exceeded.
    return np.asarray(np.minimum(in_picture, on_court))


def _as_given(
    homography: Floats, keypoints: Mapping[str, tuple[float, float]], picture_size: tuple[int, int]
) -> CourtView:
    """Return the court of the points as they are; four points fit exactly, so that nothing is known of their error."""
    residual_px = residual_m = float("nan")
    if len(keypoints) > len(CORNERS):
        places = np.array([KEYPOINTS_M[name] for name in keypoints])
        points = np.array([keypoints[name] for name in keypoints], float)
        inverse: Floats = np.linalg.inv(homography).astype(np.float64)
        residual_px = float(np.median(np.linalg.norm(project(homography, places) - points, axis=1)))
        residual_m = float(np.median(np.linalg.norm(project(inverse, points) - places, axis=1)))
    samples = project(homography, line_samples(0.2).places_m)
    return CourtView(
        image_from_court=homography,
        residual_m=residual_m,
        residual_px=residual_px,
        confidence=1.0,
        source="keypoints",
        inlier_share=float("nan"),
        visible_share=float(((samples >= 0) & (samples <= np.subtract(picture_size, 1))).all(axis=1).mean()),
    )


def _refined(given: CourtView, pictures: Sequence[Picture]) -> CourtView:
    """Return the court moved onto the lines of the pictures, if there are any as close as a click can be."""
    grey = median_grey(pictures)
    scale = grey.shape[1] / 1920
    fits = [fit_lines(grey, given.image_from_court, radii_px=tuple(radius * scale for radius in _RADII_PX))]
    found = best_candidate(grey)
    if found is not None and refusal_of(found) is None:
        fits.append(found.fit)
    close = [fit for fit in fits if _moved(given, fit) <= _CLICK_SHARE and fit.inlier_share >= MIN_INLIER_SHARE]
    if not close:
        return given
    best = max(close, key=lambda fit: fit.inlier_share)
    return replace(
        given,
        image_from_court=best.image_from_court,
        residual_m=best.residual_m,
        residual_px=best.residual_px,
        inlier_share=best.inlier_share,
        visible_share=best.visible_share,
    )


def _moved(given: CourtView, fit: LineFit) -> float:
    """Return how far the farthest corner moves, as a share of the court's width in the picture."""
    corners = project(fit.image_from_court, tuple(CORNERS.values()))
    extent = np.ptp(given.corners_px, axis=0).max()
    return float(np.linalg.norm(corners - given.corners_px, axis=1).max() / extent)
