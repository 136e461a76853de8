"""Detection of the court in pictures of a camera that stands still; a doubtful court is refused.

False courts are worse than none: every speed and zone of a video is computed from this homography. A candidate has to
have lines where the model has them, explain the lines that are there, be seen by a possible camera, and be clearly
better than every other candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.camera import camera_of, cameras_of
from modal_workers.badminton.court.dimensions import (
    CORNERS_M,
    COURT_LENGTH_M,
    COURT_WIDTH_M,
    NET_HEIGHT_AT_POSTS_M,
    NET_Y_M,
)
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView, Floats, project
from modal_workers.badminton.court.hypotheses import hypotheses
from modal_workers.badminton.court.line_model import line_centres_m
from modal_workers.badminton.court.line_picture import LinePicture, StraightLines, line_picture, straight_lines
from modal_workers.badminton.court.refinement import LineFit, fit_lines

#: Area of the picture in which lines are searched.
_WORKING_PX: Final = 960 * 540
#: Pictures of which the median is taken.
_MAX_PICTURES: Final = 9
_CANDIDATES: Final = 8
_RADII_PX: Final = (9.0, 6.0, 3.0, 3.0)
#: Two candidates are the same court when their places differ by less than this in the median, in court metres.
_SAME_COURT_M: Final = 0.15

#: Two candidates are different courts of one hall when they share less of the floor than this.
_OTHER_COURT_SHARE: Final = 0.15

#: A line of the model counts as there when this share of its visible part is.
_LINE_IS_THERE: Final = 0.35
#: Less of a line than this is too little to say whether it is there.
_LINE_IS_VISIBLE: Final = 0.2

#: What a court must reach to be reported; found with bench/badminton_court.py.
MIN_VISIBLE_SHARE: Final = 0.45
MIN_INLIER_SHARE: Final = 0.55
MIN_LINES_SHARE: Final = 0.75
MIN_EXPLAINED_SHARE: Final = 0.6
MIN_MARGIN: Final = 0.04
MIN_PROMINENCE: Final = 1.2

_CORNERS_3D: Final = [(*corner, 0.0) for corner in CORNERS_M]

Picture = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Evidence:
    """Measures of the best candidate, from which acceptance and confidence follow."""

    fit: LineFit
    #: Share of the visible lines of the model that are in the picture.
    lines_share: float
    #: Share of the picture's lines inside the court that the model has too.
    explained_share: float
    #: How much better the candidate's lines fit than those of the next that puts this court elsewhere.
    margin: float
    #: Its area in the picture as a multiple of that of the largest other court.
    prominence: float
    camera_plausible: bool


def detect_court(pictures: Sequence[Picture]) -> CourtView | CourtNotFound:
    """Return the court in BGR pictures of one still camera, or why none can be reported.

    Several pictures, seconds apart, are better than one: players move, lines do not.
    """
    if not pictures:
        return CourtNotFound(CourtRefusal.NO_PICTURE, "There is no picture of this scene.")
    grey = median_grey(pictures)
    found = search(grey)
    if isinstance(found, CourtNotFound):
        return found
    return refusal_of(found) or view_of(found)


def median_grey(pictures: Sequence[Picture]) -> Picture:
    """Return the median of at most nine of the pictures, as grey; what moves is gone from it."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), _MAX_PICTURES)).round().astype(int))
    greys = [cv2.cvtColor(pictures[number], cv2.COLOR_BGR2GRAY) for number in chosen]
    # A sorting network of whole pictures: a tenth of the time of a median over an axis.
    for end in range(len(greys) - 1, len(greys) // 2 - 1, -1):
        for number in range(end):
            lower, upper = greys[number], greys[number + 1]
            greys[number], greys[number + 1] = cv2.min(lower, upper), cv2.max(lower, upper)
    return np.asarray(greys[len(greys) // 2], np.uint8)


def search(grey: Picture) -> Evidence | CourtNotFound:
    """Return the best candidate of a grey picture with its evidence, before anything is decided."""
    height, width = grey.shape
    scale = min(1.0, float(np.sqrt(_WORKING_PX / (width * height))))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    picture = line_picture(np.asarray(small, np.uint8))
    lines = straight_lines(picture)
    if len(lines.support) < 4:
        return CourtNotFound(CourtRefusal.NO_LINES, "There are fewer than four straight bright lines in the picture.")
    candidates = hypotheses(picture, lines, _CANDIDATES)
    if not len(candidates.scores):
        return CourtNotFound(CourtRefusal.NO_MATCH, "No four lines of the picture can be lines of one court.")
    to_full = _scaling(small.shape[1] / width, small.shape[0] / height)
    fits = [fit_lines(grey, to_full @ homography, radii_px=_RADII_PX) for homography in candidates.homographies]
    fits = [LineFit(**{**vars(fit), "image_from_court": _towards_camera(fit, (width, height))}) for fit in fits]
    best = _most_prominent(fits, (width, height))
    others = [fit for fit in fits if fit is not best and not _same(best, fit)]
    rivals = [_score(fit) for fit in others if _overlap(best, fit) > _OTHER_COURT_SHARE]
    beside = [fit for fit in others if _overlap(best, fit) <= _OTHER_COURT_SHARE and _is_court(fit)]
    camera = cameras_of(best.image_from_court[None], (width, height))
    return Evidence(
        fit=best,
        lines_share=_lines_share(best),
        explained_share=_explained_share(picture, lines, np.linalg.inv(to_full) @ best.image_from_court),
        margin=_score(best) - max(rivals, default=0.0),
        prominence=_seen_area(best, (width, height))
        / max([1.0, *(_seen_area(fit, (width, height)) for fit in beside)]),
        camera_plausible=bool(camera.plausible(width)[0]),
    )


def refusal_of(evidence: Evidence) -> CourtNotFound | None:
    """Return why a candidate is not reported; None if it is."""
    fit = evidence.fit
    if fit.visible_share < MIN_VISIBLE_SHARE:
        text = f"Only {fit.visible_share:.0%} of the court's lines are inside the picture."
        return CourtNotFound(CourtRefusal.TOO_LITTLE_VISIBLE, text)
    if not evidence.camera_plausible:
        text = "The best match of the lines could not have been seen by a camera in a hall."
        return CourtNotFound(CourtRefusal.CAMERA_IMPLAUSIBLE, text)
    if fit.inlier_share < MIN_INLIER_SHARE or evidence.lines_share < MIN_LINES_SHARE:
        text = f"Lines were found at {fit.inlier_share:.0%} of the places where a court has them."
        return CourtNotFound(CourtRefusal.FEW_LINES_FIT, text)
    if evidence.explained_share < MIN_EXPLAINED_SHARE:
        text = f"Only {evidence.explained_share:.0%} of the lines inside the best match belong to a badminton court."
        return CourtNotFound(CourtRefusal.OTHER_LINES, text)
    if evidence.prominence < MIN_PROMINENCE:
        return CourtNotFound(CourtRefusal.AMBIGUOUS, "Two courts are in view, and neither is clearly the larger one.")
    if evidence.margin < MIN_MARGIN:
        return CourtNotFound(CourtRefusal.AMBIGUOUS, "The lines fit a court in more than one place.")
    return None


def view_of(evidence: Evidence) -> CourtView:
    """Return the court of an accepted candidate."""
    fit = evidence.fit
    return CourtView(
        image_from_court=fit.image_from_court,
        residual_m=fit.residual_m,
        residual_px=fit.residual_px,
        confidence=confidence_of(evidence),
        source="lines",
        inlier_share=fit.inlier_share,
        visible_share=fit.visible_share,
    )


def confidence_of(evidence: Evidence) -> float:
    """Return the share of detections with this evidence that are right."""
    return float(np.clip(evidence.fit.inlier_share * evidence.lines_share, 0.0, 1.0))


def _scaling(horizontal: float, vertical: float) -> Floats:
    """Return the homography from pixels of the scaled picture to those of the full one; centres of pixels are whole."""
    return np.array(
        [
            [1 / horizontal, 0, 0.5 / horizontal - 0.5],
            [0, 1 / vertical, 0.5 / vertical - 0.5],
            [0, 0, 1.0],
        ]
    )


def _score(fit: LineFit) -> float:
    return float(fit.inlier_share * min(1.0, fit.visible_share / 0.8) ** 0.4)


def _is_court(fit: LineFit) -> bool:
    return (
        fit.inlier_share >= MIN_INLIER_SHARE
        and fit.visible_share >= MIN_VISIBLE_SHARE
        and _lines_share(fit) >= MIN_LINES_SHARE
    )


def _most_prominent(fits: list[LineFit], size_px: tuple[int, int]) -> LineFit:
    """Return the candidate that fits best; of several courts side by side the one that is largest in the picture."""
    best = max(fits, key=_score)
    beside = [fit for fit in fits if _is_court(fit) and _overlap(best, fit) <= _OTHER_COURT_SHARE]
    largest = max([best, *beside], key=lambda fit: _seen_area(fit, size_px))
    same = [fit for fit in fits if fit is largest or _overlap(largest, fit) > _OTHER_COURT_SHARE]
    return max(same, key=_score)


def _overlap(fit: LineFit, other: LineFit) -> float:
    """Return which share of the other court's floor lies inside this court."""
    x, y = np.meshgrid(np.linspace(0.3, COURT_WIDTH_M - 0.3, 8), np.linspace(0.3, COURT_LENGTH_M - 0.3, 12))
    to_court: Floats = np.linalg.inv(fit.image_from_court).astype(np.float64)
    places = project(to_court, project(other.image_from_court, np.stack([x.ravel(), y.ravel()], axis=1)))
    return float(((places >= 0) & (places <= (COURT_WIDTH_M, COURT_LENGTH_M))).all(axis=1).mean())


def _seen_area(fit: LineFit, size_px: tuple[int, int]) -> float:
    """Return the court's area inside the picture, in pixels of a picture 200 wide."""
    scale = 200 / size_px[0]
    mask = np.zeros((round(size_px[1] * scale), 200), np.uint8)
    _fill(mask, np.diag([scale, scale, 1.0]) @ fit.image_from_court, _CORNERS_3D, (mask.shape[1], mask.shape[0]), 1)
    return float(mask.sum())


def _same(fit: LineFit, other: LineFit) -> bool:
    grid = np.array([(x, y) for y in (0.0, 4.7, 8.7, 13.4) for x in (0.0, 6.1)])
    to_court: Floats = np.linalg.inv(fit.image_from_court).astype(np.float64)
    between = project(to_court, project(other.image_from_court, grid))
    return float(np.median(np.linalg.norm(between - grid, axis=1))) < _SAME_COURT_M


def _towards_camera(fit: LineFit, size_px: tuple[int, int]) -> Floats:
    """Return the homography turned so that y points towards the camera."""
    homography = fit.image_from_court
    camera = cameras_of(homography[None], size_px)
    if camera.position_m[0, 1] >= NET_Y_M or not np.isfinite(camera.position_m[0, 1]):
        return homography
    half_turn = np.array([[-1.0, 0, COURT_WIDTH_M], [0, -1, COURT_LENGTH_M], [0, 0, 1]])
    return np.asarray(homography @ half_turn)


def _lines_share(fit: LineFit) -> float:
    """Return the share of the visible lines that are there, weighted by their visible lengths."""
    lengths = np.array([np.linalg.norm(np.subtract(end, start)) for start, end in line_centres_m()])
    weight = np.where(fit.line_visible >= _LINE_IS_VISIBLE, lengths * fit.line_visible, 0.0)
    there = np.nan_to_num(fit.line_inliers) >= _LINE_IS_THERE
    return float(weight[there].sum() / max(weight.sum(), 1e-9))


def _explained_share(picture: LinePicture, lines: StraightLines, homography: Floats) -> float:
    """Return which share of the straight lines' points inside the court lies on lines of the model or on the net."""
    shape = picture.grey.shape
    inside = np.zeros(shape, np.uint8)
    _fill(inside, homography, _CORNERS_3D, picture.size_px, 255)
    explained = np.zeros(shape, np.uint8)
    for start, end in line_centres_m():
        points = np.linspace(start, end, 60)
        depth = points @ homography[2, :2] + homography[2, 2]
        path = np.clip(np.round(project(homography, points[depth > 0])), -9999, 9999).astype(np.int32)
        cv2.polylines(explained, [path], isClosed=False, color=255, thickness=7)
    band = [(x, NET_Y_M, z) for x, z in ((-0.1, 0.6), (6.2, 0.6), (6.2, NET_HEIGHT_AT_POSTS_M + 0.1))]
    band.append((-0.1, NET_Y_M, NET_HEIGHT_AT_POSTS_M + 0.1))
    _fill(explained, homography, band, picture.size_px, 255)
    ridges = cv2.dilate(picture.mask, np.ones((3, 3), np.uint8)) > 0
    total = matched = 0.0
    for start, end in lines.ends:
        count = max(int(np.linalg.norm(end - start)), 2)
        places = np.clip(np.round(np.linspace(start, end, count)).astype(int), 0, np.array(picture.size_px) - 1)
        counted = ridges[places[:, 1], places[:, 0]] & (inside[places[:, 1], places[:, 0]] > 0)
        total += counted.sum()
        matched += (counted & (explained[places[:, 1], places[:, 0]] > 0)).sum()
    return float(matched / total) if total else 0.0


def _fill(
    mask: Picture,
    homography: Floats,
    polygon_m: list[tuple[float, float, float]],
    size_px: tuple[int, int],
    value: int,
) -> None:
    """Fill a polygon in space on a mask, as far as it lies in front of the camera."""
    camera = camera_of(homography, size_px)
    if camera is None:
        return
    edges = np.concatenate(
        [np.linspace(here, there, 30) for here, there in zip(polygon_m, [*polygon_m[1:], polygon_m[0]], strict=True)]
    )
    pixels = camera.to_image(edges)
    pixels = pixels[np.isfinite(pixels).all(axis=1)]
    if len(pixels) >= 3:
        cv2.fillConvexPoly(mask, cv2.convexHull(np.clip(pixels, -9999, 9999).astype(np.int32)), value)
