"""Heat maps on the court: seconds that a player spent in each cell of the floor, smoothed."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M

Floats = NDArray[np.float64]

CELL_M: Final = 0.25
#: Floor around the court that the maps cover: players lunge over the lines.
MARGIN_M: Final = 1.0
#: Of the Gaussian, about half the width of a stance: a finer map would show the error of the positions.
SMOOTHING_M: Final = 0.35
COLUMNS: Final = int(np.ceil((COURT_WIDTH_M + 2 * MARGIN_M) / CELL_M))
ROWS: Final = int(np.ceil((COURT_LENGTH_M + 2 * MARGIN_M) / CELL_M))


def heat_map(position_m: Floats, frame_s: Floats) -> Floats:
    """Return seconds in each cell [ROWS, COLUMNS]; row 0 is the far end, column 0 the left as the camera sees it.

    ``frame_s`` [N] is each frame's duration, 0 where it does not count. The sum of the cells is the time inside the
    map, less what smoothing moves over its edge.
    """
    known = np.isfinite(position_m).all(axis=-1) & (frame_s > 0)
    cells = np.floor((position_m[known] + MARGIN_M) / CELL_M).astype(np.int64)
    inside = (cells >= 0).all(axis=-1) & (cells[:, 0] < COLUMNS) & (cells[:, 1] < ROWS)
    flat = cells[inside, 1] * COLUMNS + cells[inside, 0]
    seconds = np.bincount(flat, weights=frame_s[known][inside], minlength=ROWS * COLUMNS)
    return smoothed(seconds.reshape(ROWS, COLUMNS).astype(np.float64))


def smoothed(cells: Floats) -> Floats:
    """Return cells smoothed by a Gaussian of ``SMOOTHING_M``."""
    reach = int(np.ceil(3 * SMOOTHING_M / CELL_M))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * CELL_M / SMOOTHING_M) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(cells, [(reach, reach) if axis == n else (0, 0) for n in (0, 1)])
        length = cells.shape[axis]
        cells = np.sum(
            [weight * np.take(padded, range(k, k + length), axis=axis) for k, weight in enumerate(kernel)], axis=0
        )
    return cells
