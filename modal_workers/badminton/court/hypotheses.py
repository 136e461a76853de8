"""Homographies that put the court's lines on lines of a picture: four lines against four of the model, many at once.

Lines that are parallel on the floor meet in one vanishing point, which sorts them into two families. Each pair of lines
of one family with each pair of the other is compared with each pair of the model's cross lines and side lines. What no
camera can have seen is left out before anything is compared with the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.camera import FOCAL_WIDTHS, cameras_of
from modal_workers.badminton.court.dimensions import CENTRE_X_M, CORNERS_M, COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M
from modal_workers.badminton.court.homography import Floats, project
from modal_workers.badminton.court.line_model import CROSS_CENTRES_Y_M, SIDE_CENTRES_X_M, LineSamples, line_samples
from modal_workers.badminton.court.line_picture import DIRECTIONS, FAR_PX, LinePicture, StraightLines

#: Lines that take part in the search for vanishing points, and lines of one family.
_LINES: Final = 40
_FAMILY: Final = 11
_VANISHING_POINTS: Final = 6
#: Pairs of families that are searched.
_PAIRS: Final = 6
#: A line belongs to a vanishing point that it misses by less than this.
_MISSED_RAD: Final = np.radians(1.6)
#: Inconsistency of the axes that the inaccuracy of four lines explains.
_MAX_SHEAR: Final = 0.2
_MIN_AREA_SHARE: Final = 0.02
_MIN_VISIBLE_SHARE: Final = 0.25
#: Hypotheses that are kept for other courts of the hall than that of the best one.
_BESIDE: Final = 3
#: A hypothesis is of another court when it shares less of its floor than this with the best one.
_OVERLAP: Final = 0.15
_CHUNK: Final = 20_000
_COARSE_STEP_M: Final = 1.1
_FINE_STEP_M: Final = 0.25
_LENGTH_POWER: Final = 0.4

#: Pairs of side lines and pairs of cross lines as (left, far, width, length) of their rectangles.
_RECTANGLES: Final = np.array(
    [
        (left, far, right - left, near - far)
        for left, right in combinations(SIDE_CENTRES_X_M, 2)
        for far, near in combinations(CROSS_CENTRES_Y_M, 2)
    ]
)


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """Homographies (n, 3, 3) with their agreement with the ridges, the best first."""

    homographies: Floats
    scores: Floats


def hypotheses(picture: LinePicture, lines: StraightLines, count: int) -> Hypotheses:
    """Return the ``count`` best places of a court that differ from each other."""
    found, scores = [np.zeros((0, 3, 3))], [np.zeros(0)]
    coarse = line_samples(_COARSE_STEP_M)
    for across, along in _families(lines, picture.size_px):
        homographies = _homographies(lines.coefficients[across], lines.coefficients[along], picture.size_px)
        for start in range(0, len(homographies), _CHUNK):
            chunk = homographies[start : start + _CHUNK]
            agreement, _ = agreement_with(picture, chunk, coarse)
            best = np.argsort(-agreement)[: 40 * count]
            found.append(chunk[best])
            scores.append(agreement[best])
    together, agreement = np.concatenate(found), np.concatenate(scores)
    best = np.argsort(-agreement)[: 30 * count]
    fine = line_samples(_FINE_STEP_M)
    together = together[best]
    agreement, length_px = agreement_with(picture, together, fine)
    # A court pressed into half of the true one has all its lines on lines, but explains fewer of the picture's.
    agreement *= (length_px / max(float(length_px.max(initial=0.0)), 1.0)) ** _LENGTH_POWER
    order = np.argsort(-agreement)
    together, agreement = together[order], agreement[order]
    kept = _distinct(together, count)
    # The lines of the best court fit many more hypotheses: another court would hardly be among the first.
    beside = np.flatnonzero(_away_from(together, together[0])) if len(together) else kept
    kept = np.unique(np.concatenate([kept, beside[_distinct(together[beside], _BESIDE)]]))
    return Hypotheses(together[kept], agreement[kept])


def agreement_with(picture: LinePicture, homographies: Floats, samples: LineSamples) -> tuple[Floats, Floats]:
    """Return how well ridges lie along the model's samples under each homography, 0 to 1, and along how many pixels."""
    width, height = picture.size_px
    places_m, directions = samples.places_m, samples.directions
    ones = np.column_stack([places_m, np.ones(len(places_m))])
    ahead = np.column_stack([places_m + 0.02 * directions, np.ones(len(places_m))])
    matrices = homographies.astype(np.float32)
    here = np.einsum("nij,mj->nim", matrices, ones.astype(np.float32))
    there = np.einsum("nij,mj->nim", matrices, ahead.astype(np.float32))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        x, y = here[:, 0] / here[:, 2], here[:, 1] / here[:, 2]
        visible = (here[:, 2] > 0) & (x >= 3) & (y >= 3) & (x < width - 4) & (y < height - 4)
        # The direction of the line in the picture, from the difference of two points without dividing by their depth.
        step_x = there[:, 0] * here[:, 2] - here[:, 0] * there[:, 2]
        step_y = there[:, 1] * here[:, 2] - here[:, 1] * there[:, 2]
        angle = np.arctan2(step_y, step_x) % np.pi
        # The middle of a class, not its edge, is where its map is complete.
        direction = np.where(visible, angle * (DIRECTIONS / np.pi), 0).astype(np.intp) % DIRECTIONS
        column = np.where(visible, x + 0.5, 0).astype(np.intp)
        row = np.where(visible, y + 0.5, 0).astype(np.intp)
    distance = picture.distances[direction, row, column]
    supported = np.where(visible, 1.0 - distance / FAR_PX, 0.0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        length_px = np.where(visible, np.hypot(step_x, step_y) / np.abs(here[:, 2] * there[:, 2]), 0.0)
    support = supported.sum(axis=1)
    seen = visible.sum(axis=1)
    share = seen / len(places_m)
    score = support / np.maximum(seen, 1) * np.minimum(1.0, share / 0.8) ** 0.4
    enough = share >= _MIN_VISIBLE_SHARE
    return np.where(enough, score, 0.0).astype(np.float64), (supported * length_px).sum(axis=1).astype(np.float64)


def _families(lines: StraightLines, size_px: tuple[int, int]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return pairs of families of lines (across the court, along it), the best supported first."""
    count = min(len(lines.support), _LINES)
    if count < 4:
        return []
    to_unit = np.array([[2 / size_px[0], 0, -1], [0, 2 / size_px[0], -size_px[1] / size_px[0]], [0, 0, 1.0]])
    ends = project(to_unit, lines.ends[:count])
    middles, directions = ends.mean(axis=1), ends[:, 1] - ends[:, 0]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    unit = lines.coefficients[:count] @ np.linalg.inv(to_unit)
    first, second = np.triu_indices(count, 1)
    points = np.cross(unit[first], unit[second])
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    # Directions from every line's middle to every vanishing point.
    towards = points[:, None, :2] - middles[None] * points[:, None, 2:]
    sine = np.abs(towards[..., 0] * directions[:, 1] - towards[..., 1] * directions[:, 0])
    member = sine < _MISSED_RAD * np.maximum(np.linalg.norm(towards, axis=2), 1e-9)
    weight = np.sqrt(lines.support[:count])
    chosen: list[NDArray[np.bool_]] = []
    score = member @ weight
    while len(chosen) < _VANISHING_POINTS and score.max() > 0:
        best = member[int(score.argmax())]
        chosen.append(best)
        overlap = (member & best) @ weight / np.minimum(member @ weight, best @ weight)
        score = np.where(overlap > 0.6, 0.0, score)
    pairs = []
    for across, along in permutations(chosen, 2):
        only = (across & ~along, along & ~across)
        if min(part.sum() for part in only) >= 2:
            strength = sorted(float(weight[part].sum()) for part in only)
            level = np.abs(directions[only[0], 0]).mean() > np.abs(directions[only[1], 0]).mean()
            pairs.append((strength[0] + 0.2 * strength[1] + (0.01 if level else 0.0), only))
    pairs.sort(key=lambda pair: -pair[0])
    return [
        (np.flatnonzero(across)[:_FAMILY], np.flatnonzero(along)[:_FAMILY]) for _, (across, along) in pairs[:_PAIRS]
    ]


def _homographies(across: Floats, along: Floats, size_px: tuple[int, int]) -> Floats:
    """Return plausible homographies with two of the lines across and two of those along the court on the model's."""
    squares = _from_unit_squares(across, along, size_px)
    if not len(squares):
        return squares
    focal_ok = _plausible_rectangles(squares, size_px)
    square, rectangle = np.nonzero(focal_ok)
    left, far, width, length = _RECTANGLES[rectangle].T
    result = squares[square].copy()
    result[:, :, 0] /= width[:, None]
    result[:, :, 1] /= length[:, None]
    result[:, :, 2] -= result[:, :, 0] * left[:, None] + result[:, :, 1] * far[:, None]
    corners = np.column_stack([CORNERS_M, np.ones(4)])
    depth = result[:, 2] @ np.array([CENTRE_X_M, NET_Y_M, 1.0])
    result = result[depth > 0]
    mapped = np.einsum("nij,mj->nmi", result, corners)
    with np.errstate(invalid="ignore", divide="ignore"):
        picture = mapped[..., :2] / mapped[..., 2:]
        turned = np.roll(picture, -1, axis=1)
        area = 0.5 * np.abs((picture[..., 0] * turned[..., 1] - picture[..., 1] * turned[..., 0]).sum(axis=1))
    behind = (mapped[..., 2] <= 0).any(axis=1)
    result = result[behind | (area > _MIN_AREA_SHARE * size_px[0] * size_px[1])]
    return np.asarray(result[_seen_from_above(result, size_px)])


def _seen_from_above(homographies: Floats, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    kept = np.zeros(len(homographies), bool)
    for start in range(0, len(homographies), _CHUNK):
        chunk = homographies[start : start + _CHUNK]
        cameras = cameras_of(chunk, size_px)
        with np.errstate(invalid="ignore"):
            kept[start : start + _CHUNK] = (cameras.position_m[:, 2] > 0.6) & (cameras.position_m[:, 2] < 50)
    return kept


def _from_unit_squares(across: Floats, along: Floats, size_px: tuple[int, int]) -> Floats:
    """Return the homographies of the unit square to the quadrilaterals of two lines across and two along."""
    corners = np.cross(across[:, None], along[None])
    with np.errstate(invalid="ignore", divide="ignore"):
        corners = corners[..., :2] / corners[..., 2:]
    far, near = np.array(list(combinations(range(len(across)), 2))).T
    left, right = np.array(list(combinations(range(len(along)), 2))).T
    quads = np.stack(
        [corners[far][:, left], corners[far][:, right], corners[near][:, right], corners[near][:, left]], axis=2
    ).reshape(-1, 4, 2)
    limit = 2.0 * size_px[0]
    with np.errstate(invalid="ignore"):
        near_picture = (np.isfinite(quads) & (np.abs(quads) < limit)).all(axis=(1, 2))
    quads = quads[near_picture]
    squares = _unit_square_to(quads)
    with np.errstate(invalid="ignore"):
        in_front = np.stack([squares[:, 2] @ corner for corner in ((0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1))]) > 0
        valid = in_front.all(axis=0) & np.isfinite(squares).all(axis=(1, 2))
    squares = squares[valid]
    # A mirrored view becomes one that is not, with left and right exchanged: the model is symmetric.
    mirrored = np.linalg.det(squares) < 0
    swap = np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]])
    squares[mirrored] = squares[mirrored] @ swap
    return squares


def _unit_square_to(quads: Floats) -> Floats:
    """Return homographies that take (0, 0), (1, 0), (1, 1), (0, 1) to the corners of quadrilaterals (n, 4, 2)."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = (quads[:, corner].T for corner in range(4))
    dx1, dx2, dx3 = x1 - x2, x3 - x2, x0 - x1 + x2 - x3
    dy1, dy2, dy3 = y1 - y2, y3 - y2, y0 - y1 + y2 - y3
    with np.errstate(invalid="ignore", divide="ignore"):
        area = dx1 * dy2 - dx2 * dy1
        g = (dx3 * dy2 - dx2 * dy3) / area
        h = (dx1 * dy3 - dx3 * dy1) / area
    rows = [x1 - x0 + g * x1, x3 - x0 + h * x3, x0, y1 - y0 + g * y1, y3 - y0 + h * y3, y0, g, h, np.ones_like(g)]
    return np.stack(rows, axis=1).reshape(-1, 3, 3)


def _plausible_rectangles(squares: Floats, size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """Return for every quadrilateral and every rectangle of the model whether a camera with square pixels exists.

    The model's rectangles differ in the lengths of their sides only, which scale the columns of one homography.
    """
    first, second = (
        np.stack(
            [
                squares[:, 0, column] - (size_px[0] - 1) / 2 * squares[:, 2, column],
                squares[:, 1, column] - (size_px[1] - 1) / 2 * squares[:, 2, column],
                squares[:, 2, column],
            ]
        )[..., None]
        for column in (0, 1)
    )
    per_width, per_length = 1 / _RECTANGLES[None, :, 2], 1 / _RECTANGLES[None, :, 3]
    product = per_width * per_length
    a = (first[0] * second[0] + first[1] * second[1]) * product
    b = first[2] * second[2] * product
    square_first, square_second = (first[0] ** 2 + first[1] ** 2), (second[0] ** 2 + second[1] ** 2)
    c = 0.5 * (square_first * per_width**2 - square_second * per_length**2)
    d = 0.5 * (first[2] ** 2 * per_width**2 - second[2] ** 2 * per_length**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        focal_square = -(a * a + c * c) / (a * b + c * d)
        inside = (focal_square > (0.8 * FOCAL_WIDTHS[0] * size_px[0]) ** 2) & (
            focal_square < (1.25 * FOCAL_WIDTHS[1] * size_px[0]) ** 2
        )
        length_first = (square_first / focal_square + first[2] ** 2) * per_width**2
        length_second = (square_second / focal_square + second[2] ** 2) * per_length**2
        cosine = np.abs(a / focal_square + b) / np.sqrt(length_first * length_second)
        ratio = np.abs(0.5 * np.log(length_first / length_second))
    return np.asarray(inside & (cosine < _MAX_SHEAR) & (ratio < _MAX_SHEAR))


def _away_from(homographies: Floats, best: Floats) -> NDArray[np.bool_]:
    """Return which homographies put their court beside that of the best one."""
    x, y = np.meshgrid(np.linspace(0.3, 5.8, 5), np.linspace(0.3, 13.1, 8))
    floor = np.stack([x.ravel(), y.ravel()], axis=1)
    inverse: Floats = np.linalg.inv(best).astype(np.float64)
    places = [project(inverse, project(homography, floor)) for homography in homographies]
    inside = (np.array(places) >= 0) & (np.array(places) <= (COURT_WIDTH_M, COURT_LENGTH_M))
    return np.asarray(inside.all(axis=2).mean(axis=1) < _OVERLAP)


def _distinct(homographies: Floats, count: int) -> NDArray[np.intp]:
    """Return indices of the first homographies that do not put the court where an earlier one does."""
    grid = np.array([(x, y) for y in (0.0, 4.7, 8.7, 13.4) for x in (0.0, 6.1)])
    kept: list[int] = []
    places: list[Floats] = []
    for number, homography in enumerate(homographies):
        place = project(homography, grid)
        # The court turned by half a turn is the same court.
        same = (min(np.median(np.abs(place - other)), np.median(np.abs(place[::-1] - other))) < 4.0 for other in places)
        if not any(same):
            kept.append(number)
            places.append(place)
        if len(kept) == count:
            break
    return np.array(kept, dtype=np.intp)
