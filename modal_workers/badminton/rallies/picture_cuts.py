"""Cuts points of the picture into smooth pieces by dynamic programming."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.rallies.flight_piece import NOISE_PX, RIDGE, log_time_powers, slowed_time

Floats = NDArray[np.float64]

LONGEST_FLIGHT_S: Final = 3.0
FEWEST_POINTS: Final = 3
#: Cost of a point that belongs to no piece, in units of squared standard deviations.
OUTLIER_COST: Final = 14.0


def cut_in_picture(times_s: Floats, position: Floats, scale: float, flight_cost: float) -> list[tuple[int, int]]:
    """Return the ranges of points of the best pieces; points in none of them are outliers."""
    count = len(times_s)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    begin = np.full(count + 1, -1)
    unit = (NOISE_PX * scale) ** 2
    for start in range(count):
        if best[start] + OUTLIER_COST < best[start + 1]:
            best[start + 1], begin[start + 1] = best[start] + OUTLIER_COST, -1
        end = int(np.searchsorted(times_s, times_s[start] + LONGEST_FLIGHT_S, side="right"))
        if end - start < FEWEST_POINTS:
            continue
        total = best[start] + _residuals(times_s[start:end], position[start:end]) / unit + flight_cost
        total[: FEWEST_POINTS - 1] = np.inf
        better = np.flatnonzero(total < best[start + 1 : end + 1])
        best[start + 1 + better], begin[start + 1 + better] = total[better], start
    pieces: list[tuple[int, int]] = []
    end = count
    while end > 0:
        if begin[end] < 0:
            end -= 1
        else:
            pieces.append((int(begin[end]), end))
            end = int(begin[end])
    return pieces[::-1]


def _residuals(times_s: Floats, position: Floats) -> Floats:
    """Return the sums of squared residuals of the fits to the first 1, 2, … points."""
    powers = log_time_powers(slowed_time(times_s - times_s[0]))
    offset = position - position[0]
    moments = np.cumsum(powers[:, :, None] * powers[:, None], axis=0) + RIDGE
    products = np.cumsum(powers[:, :, None] * offset[:, None], axis=0)
    squares = np.cumsum((offset**2).sum(1))
    fitted = np.linalg.solve(moments, products)
    return np.asarray(np.maximum(0.0, squares - (products * fitted).sum((1, 2))))
