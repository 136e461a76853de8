"""Footwork: how much of the own half a player used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from modal_workers.badminton.analytics.own_half import Floats, OwnHalf
from modal_workers.badminton.court.dimensions import COURT_WIDTH_M, NET_Y_M

#: Cells of about half a metre: the own half is 6.10 m wide and 6.70 m long.
COLUMNS: Final = 12
ROWS: Final = 13


@dataclass(frozen=True)
class Footwork:
    """Share of the own half's cells (0.51 x 0.52 m) that the player stood in, and the area of the hull around them."""

    covered_share: float
    hull_area_m2: float


def measure_footwork(half: OwnHalf, frame_s: Floats) -> Footwork:
    """Return the footwork over the frames with a duration; NaN where no position is known."""
    known = np.isfinite(half.from_net_m) & np.isfinite(half.from_left_m) & (frame_s > 0)
    if not known.any():
        return Footwork(float("nan"), float("nan"))
    places = np.stack([half.from_left_m[known], half.from_net_m[known]], axis=-1)
    cells = np.floor(places / (COURT_WIDTH_M / COLUMNS, NET_Y_M / ROWS)).astype(np.int64)
    inside = cells[((cells >= 0) & (cells < (COLUMNS, ROWS))).all(axis=-1)]
    visited = len(np.unique(inside[:, 1] * COLUMNS + inside[:, 0]))
    return Footwork(visited / (COLUMNS * ROWS), hull_area_m2(places))


def hull_area_m2(places_m: Floats) -> float:
    """Return the area of the convex hull of places [n, 2] (Andrew's monotone chain)."""
    # Points rounded to a centimetre: the hull needs no more, and there are far fewer of them.
    ordered = [(float(x), float(y)) for x, y in np.unique(np.round(places_m, 2), axis=0)]
    if len(ordered) < 3:
        return 0.0
    hull = _chain(ordered)[:-1] + _chain(ordered[::-1])[:-1]
    x, y = np.array(hull).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)


def _chain(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    chain: list[tuple[float, float]] = []
    for point in points:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
