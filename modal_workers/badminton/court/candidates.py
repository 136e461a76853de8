"""Candidates for the court in one picture, refined, and what speaks for and against the best of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from modal_workers.badminton.court.homography import Floats, project
from modal_workers.badminton.court.hypotheses import hypotheses
from modal_workers.badminton.court.line_model import line_centres_m
from modal_workers.badminton.court.line_picture import LinePicture, StraightLines, line_picture, straight_lines
from modal_workers.badminton.court.refinement import LineFit, fit_lines

#: Area of the picture in which lines are searched.
_WORKING_PX: Final = 960 * 540
_COUNT: Final = 8
_RADII_PX: Final = (9.0, 6.0, 3.0, 3.0)
#: Two candidates are the same court when their places differ by less than this in the median, in court metres.
_SAME_COURT_M: Final = 0.15
#: Two candidates are different courts of one hall when they share less of the floor than this.
_OTHER_COURT_SHARE: Final = 0.15
#: A line of the model counts as there when this share of its visible part is.
_LINE_IS_THERE: Final = 0.35
#: Less of a line than this is too little to say whether it is there.
_LINE_IS_VISIBLE: Final = 0.2
#: A court that leaves lines of the picture without an explanation scores less: power of the explained share.
_EXPLAINED_POWER: Final = 0.5
#: A line of the picture this close to one of the model is explained by it, in pixels of the working picture.
_EXPLAINED_PX: Final = 7
#: Lines that are fainter than this share of the court's contrast are not painted.
_FAINT_SHARE: Final = 0.5
#: What another court in the hall must reach to count as one.
_OTHER_COURT: Final = {"inlier": 0.55, "lines": 0.75, "visible": 0.25}

_CORNERS_3D: Final = [(*corner, 0.0) for corner in CORNERS_M]
_PLACES_M: Final = np.array([(x, y) for y in (0.0, 4.7, 8.7, 13.4) for x in (0.0, 6.1)])

Grey = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The best candidate and its measures, from which acceptance and confidence follow."""

    fit: LineFit
    #: Share of the visible lines of the model that are in the picture.
    lines_share: float
    #: Share of the picture's lines inside the court that the model has too.
    explained_share: float
    #: How much better the candidate's lines fit than those of the next that puts this court elsewhere.
    margin: float
    #: Its prominence as a multiple of that of the next court of the hall.
    prominence: float
    #: Its area in the picture as a multiple of that of the largest other court, cut off or not.
    area_ratio: float
    camera_plausible: bool


@dataclass(frozen=True, eq=False)
class _Candidate:
    fit: LineFit
    lines_share: float
    #: Number of points on the picture's lines that the model has too.
    explained_px: float
    area: float
    #: Area inside the picture, reduced for a court that is cut off.
    prominence: float
    score: float = 0.0


@dataclass(frozen=True, eq=False)
class _Scene:
    grey: Grey
    picture: LinePicture
    lines: StraightLines
    #: Points of the picture's ridges on its straight lines: (n, 2) columns and rows of the working picture.
    points: NDArray[np.intp]
    to_working: Floats

    @property
    def size_px(self) -> tuple[int, int]:
        return self.grey.shape[1], self.grey.shape[0]


def best_candidate(grey: Grey) -> Evidence | None:
    """Return the best candidate in a grey picture with its evidence; None where no four lines can be a court's."""
    scene = _scene(grey)
    found = hypotheses(scene.picture, scene.lines, _COUNT)
    to_full: Floats = np.linalg.inv(scene.to_working).astype(np.float64)
    fits = [fit_lines(grey, to_full @ homography, radii_px=_RADII_PX) for homography in found.homographies]
    if not fits:
        return None
    candidates = _scored([_candidate(scene, _towards_camera(fit, scene.size_px)) for fit in fits])
    best = _most_prominent(candidates)
    others = [other for other in candidates if other is not best and not _same(best.fit, other.fit)]
    rivals = [other.score for other in others if _overlap(best.fit, other.fit) > _OTHER_COURT_SHARE]
    beside = [other for other in others if _is_beside(best, other)]
    cameras = cameras_of(best.fit.image_from_court[None], scene.size_px)
    return Evidence(
        fit=best.fit,
        lines_share=best.lines_share,
        explained_share=_explained_share(scene, best.fit),
        margin=best.score - max(rivals, default=0.0),
        prominence=best.prominence / max([1.0, *(other.prominence for other in beside)]),
        area_ratio=best.area / max([1.0, *(other.area for other in beside)]),
        camera_plausible=bool(cameras.plausible(scene.size_px[0])[0]),
    )


def _scene(grey: Grey) -> _Scene:
    height, width = grey.shape
    scale = min(1.0, float(np.sqrt(_WORKING_PX / (width * height))))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    picture = line_picture(np.asarray(small, np.uint8))
    lines = straight_lines(picture)
    horizontal, vertical = small.shape[1] / width, small.shape[0] / height
    # Centres of pixels are whole numbers in both pictures.
    to_working = np.array(
        [[horizontal, 0, (horizontal - 1) / 2], [0, vertical, (vertical - 1) / 2], [0, 0, 1.0]],
    )
    ridges = cv2.dilate(picture.mask, np.ones((3, 3), np.uint8)) > 0
    points = [np.zeros((0, 2), np.intp)]
    for start, end in lines.ends:
        count = max(int(np.linalg.norm(end - start)), 2)
        along = np.round(np.linspace(start, end, count)).astype(np.intp)
        along = np.clip(along, 0, np.array(picture.size_px) - 1)
        points.append(along[ridges[along[:, 1], along[:, 0]]])
    return _Scene(grey, picture, lines, np.concatenate(points), to_working)


def _candidate(scene: _Scene, fit: LineFit) -> _Candidate:
    explained = _model_mask(scene, fit)[scene.points[:, 1], scene.points[:, 0]] > 0
    area = _seen_area(fit, scene.size_px)
    return _Candidate(fit, _lines_share(fit), float(explained.sum()), area, area * fit.visible_share**2)


def _scored(candidates: list[_Candidate]) -> list[_Candidate]:
    """Return the candidates with scores that compare those of the same part of the floor."""
    scored = []
    for candidate in candidates:
        fit = candidate.fit
        near = [other.explained_px for other in candidates if _overlap(fit, other.fit) > _OTHER_COURT_SHARE]
        explained = candidate.explained_px / max([1.0, candidate.explained_px, *near])
        score = fit.inlier_share * min(1.0, fit.visible_share / 0.8) ** 0.4 * explained**_EXPLAINED_POWER
        scored.append(replace(candidate, score=float(score)))
    return scored


def _most_prominent(candidates: list[_Candidate]) -> _Candidate:
    """Return the candidate that fits best; of several courts side by side the most prominent one."""
    best = max(candidates, key=lambda candidate: candidate.score)
    courts = [best, *(candidate for candidate in candidates if _is_beside(best, candidate))]
    chosen = max(courts, key=lambda candidate: candidate.prominence)
    same = [other for other in candidates if other is chosen or _overlap(chosen.fit, other.fit) > _OTHER_COURT_SHARE]
    return max(same, key=lambda candidate: candidate.score)


def _is_beside(candidate: _Candidate, other: _Candidate) -> bool:
    """Return whether the other one is another court of the hall."""
    return (
        other.fit.inlier_share >= _OTHER_COURT["inlier"]
        and other.lines_share >= _OTHER_COURT["lines"]
        and other.fit.visible_share >= _OTHER_COURT["visible"]
        and _overlap(candidate.fit, other.fit) <= _OTHER_COURT_SHARE
    )


def _same(fit: LineFit, other: LineFit) -> bool:
    to_court: Floats = np.linalg.inv(fit.image_from_court).astype(np.float64)
    between = project(to_court, project(other.image_from_court, _PLACES_M))
    return float(np.median(np.linalg.norm(between - _PLACES_M, axis=1))) < _SAME_COURT_M


def _overlap(fit: LineFit, other: LineFit) -> float:
    """Return which share of the other court's floor lies inside this court."""
    x, y = np.meshgrid(np.linspace(0.3, COURT_WIDTH_M - 0.3, 8), np.linspace(0.3, COURT_LENGTH_M - 0.3, 12))
    to_court: Floats = np.linalg.inv(fit.image_from_court).astype(np.float64)
    places = project(to_court, project(other.image_from_court, np.stack([x.ravel(), y.ravel()], axis=1)))
    return float(((places >= 0) & (places <= (COURT_WIDTH_M, COURT_LENGTH_M))).all(axis=1).mean())


def _towards_camera(fit: LineFit, size_px: tuple[int, int]) -> LineFit:
    """Return the fit turned so that y points towards the camera."""
    camera = cameras_of(fit.image_from_court[None], size_px)
    if camera.position_m[0, 1] >= NET_Y_M or not np.isfinite(camera.position_m[0, 1]):
        return fit
    half_turn = np.array([[-1.0, 0, COURT_WIDTH_M], [0, -1, COURT_LENGTH_M], [0, 0, 1]])
    # Cross lines, side lines and centre lines change places among themselves.
    order = np.array([5, 4, 3, 2, 1, 0, 9, 8, 7, 6, 11, 10])
    return replace(
        fit,
        image_from_court=np.asarray(fit.image_from_court @ half_turn),
        line_inliers=fit.line_inliers[order],
        line_visible=fit.line_visible[order],
    )


def _lines_share(fit: LineFit) -> float:
    """Return the share of the visible lines that are there, weighted by their visible lengths."""
    lengths = np.array([np.linalg.norm(np.subtract(end, start)) for start, end in line_centres_m()])
    weight = np.where(fit.line_visible >= _LINE_IS_VISIBLE, lengths * fit.line_visible, 0.0)
    there = np.nan_to_num(fit.line_inliers) >= _LINE_IS_THERE
    return float(weight[there].sum() / max(weight.sum(), 1e-9))


def _explained_share(scene: _Scene, fit: LineFit) -> float:
    """Return which share of the straight lines' points inside the court lies on lines of the model or on the net."""
    working = scene.to_working @ fit.image_from_court
    inside = np.zeros(scene.picture.grey.shape, np.uint8)
    _fill(inside, working, _CORNERS_3D, scene.picture.size_px)
    explained = _model_mask(scene, fit)
    band = [(x, NET_Y_M, z) for x, z in ((-0.1, 0.6), (6.2, 0.6), (6.2, NET_HEIGHT_AT_POSTS_M + 0.1))]
    band.append((-0.1, NET_Y_M, NET_HEIGHT_AT_POSTS_M + 0.1))
    _fill(explained, working, band, scene.picture.size_px)
    columns, rows = scene.points.T
    contrast = scene.picture.contrast_map[rows, columns]
    on_model = explained[rows, columns] > 0
    counted = inside[rows, columns] > 0
    if not (counted & on_model).any():
        return 0.0
    # The joints of a wooden floor are lines too, but fainter than what is painted.
    counted &= contrast >= _FAINT_SHARE * np.median(contrast[counted & on_model])
    return float((counted & on_model).sum() / max(counted.sum(), 1))


def _model_mask(scene: _Scene, fit: LineFit) -> Grey:
    """Return the model's lines, drawn in the working picture."""
    mask = np.zeros(scene.picture.grey.shape, np.uint8)
    working = scene.to_working @ fit.image_from_court
    for start, end in line_centres_m():
        points = np.linspace(start, end, 60)
        depth = points @ working[2, :2] + working[2, 2]
        path = np.clip(np.round(project(working, points[depth > 0])), -9999, 9999).astype(np.int32)
        cv2.polylines(mask, [path], isClosed=False, color=255, thickness=_EXPLAINED_PX)
    return mask


def _seen_area(fit: LineFit, size_px: tuple[int, int]) -> float:
    """Return the court's area inside the picture, in pixels of a picture 200 wide."""
    scale = 200 / size_px[0]
    mask = np.zeros((round(size_px[1] * scale), 200), np.uint8)
    _fill(mask, np.diag([scale, scale, 1.0]) @ fit.image_from_court, _CORNERS_3D, (mask.shape[1], mask.shape[0]))
    return float((mask > 0).sum())


def _fill(
    mask: Grey, homography: Floats, polygon_m: list[tuple[float, float, float]], size_px: tuple[int, int]
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
        cv2.fillConvexPoly(mask, cv2.convexHull(np.clip(pixels, -9999, 9999).astype(np.int32)), 255)
