"""Sample points on the painted lines' centres, which a homography moves into the picture to compare with its lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import (
    CENTRE_X_M,
    COURT_LENGTH_M,
    COURT_WIDTH_M,
    CROSS_LINES_Y_M,
    LINE_WIDTH_M,
    NET_Y_M,
    SIDE_LINES_X_M,
    line_segments_m,
)
from modal_workers.badminton.court.homography import Floats


def _centre(outer_edge: float, middle: float, *, towards_middle: bool) -> float:
    inwards = LINE_WIDTH_M / 2 if outer_edge < middle else -LINE_WIDTH_M / 2
    return outer_edge + (inwards if towards_middle else -inwards)


#: Positions are those of outer edges: half a line's width lies between them and its centre. The short service lines'
#: outer edges are those towards the net.
CROSS_CENTRES_Y_M: Final = tuple(
    _centre(y, NET_Y_M, towards_middle=abs(y - NET_Y_M) > COURT_LENGTH_M / 4) for y in CROSS_LINES_Y_M
)
SIDE_CENTRES_X_M: Final = tuple(_centre(x, CENTRE_X_M, towards_middle=True) for x in SIDE_LINES_X_M)


@dataclass(frozen=True, eq=False)
class LineSamples:
    """Points on line centres: (n, 2) places, (n, 2) unit directions of the lines, and (n,) the lines' numbers."""

    places_m: Floats
    directions: Floats
    lines: NDArray[np.intp]


def line_centres_m() -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Return the painted lines' centres in the order of ``line_segments_m``."""
    across = [((0.0, y), (COURT_WIDTH_M, y)) for y in CROSS_CENTRES_Y_M]
    along = [((x, 0.0), (x, COURT_LENGTH_M)) for x in SIDE_CENTRES_X_M]
    return [*across, *along, *line_segments_m()[-2:]]


def line_samples(step_m: float) -> LineSamples:
    """Return samples about ``step_m`` apart, none of them on a crossing of two lines."""
    places, directions, lines = [], [], []
    for number, (start, end) in enumerate(line_centres_m()):
        first, last = np.asarray(start), np.asarray(end)
        length = float(np.linalg.norm(last - first))
        count = max(3, round(length / step_m))
        shares = (np.arange(count) + 0.5) / count
        points = first + shares[:, None] * (last - first)
        direction = (last - first) / length
        kept = ~_on_crossing(points, along_court=abs(direction[1]) > abs(direction[0]))
        places.append(points[kept])
        directions.append(np.tile(direction, (int(kept.sum()), 1)))
        lines.append(np.full(int(kept.sum()), number))
    return LineSamples(np.concatenate(places), np.concatenate(directions), np.concatenate(lines))


def _on_crossing(points: Floats, *, along_court: bool) -> NDArray[np.bool_]:
    axis, others = (1, CROSS_CENTRES_Y_M) if along_court else (0, (*SIDE_CENTRES_X_M, CENTRE_X_M))
    nearest = np.abs(points[:, axis, None] - np.asarray(others)).min(axis=1)
    return np.asarray(nearest < 1.5 * LINE_WIDTH_M)
