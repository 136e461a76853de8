"""Dynamic time warping with open ends: the samples of two sequences that show the same place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]
Indices = NDArray[np.int64]

#: Cost of an unmatched sample, on the scale of 1 - cosine: matches below it gain, matches above it lose.
SKIP_COST: Final = 0.78
#: The coarse pass uses at most this many samples of each clip, so its matrix stays within 64 MB.
COARSE_SAMPLES: Final = 3600
_START, _DIAGONAL, _UP, _ALONG = 0, 1, 2, 3


@dataclass(frozen=True)
class WarpingPath:
    """A warping path. Shapes: index_a, index_b [S], both non-decreasing."""

    index_a: Indices
    index_b: Indices
    gain: float  # sum of SKIP_COST minus cost over all matched samples

    def mean_b_per_a(self) -> tuple[Indices, NDArray[np.float64]]:
        """Return every matched sample of A [M] and the mean of its matches in B [M]."""
        first = int(self.index_a[0])
        count = np.bincount(self.index_a - first)
        total = np.bincount(self.index_a - first, self.index_b)
        return np.arange(first, first + len(count)), total / np.maximum(count, 1)


def find_warping_path(a: Values, b: Values) -> WarpingPath:
    """Align unit vectors a [N, L] and b [M, L]: coarse over everything, then fine in a corridor around the coarse path.

    Memory grows with N + M, not with N x M. Source: Sakoe and Chiba 1978 for the recursion; open ends as in local
    alignment (Smith and Waterman 1981), each sample gaining ``SKIP_COST`` minus its cost.
    """
    stride = max(1, int(np.ceil(max(len(a), len(b)) / COARSE_SAMPLES)))
    coarse = _best_path(a[::stride], b[::stride], np.zeros(len(a[::stride]), np.int64), len(b[::stride]))
    if stride == 1:
        return coarse
    half = 10 * stride
    index_a, index_b = coarse.mean_b_per_a()
    rows = np.arange(len(a))
    # the corridor extends beyond the coarse path at constant pace, so that the ends can still grow
    inside = np.interp(rows, index_a * stride, index_b * stride)
    beyond = np.minimum(rows - index_a[0] * stride, 0) + np.maximum(rows - index_a[-1] * stride, 0)
    low = np.round(inside + beyond - half).astype(np.int64)
    return _best_path(a, b, np.maximum.accumulate(low), 2 * half + 1)


def find_later_path(vectors: Values, lags: tuple[int, int], others: Values | None = None) -> WarpingPath:
    """Align unit vectors [N, L] with themselves: row i with samples ``lags[0]`` to ``lags[1]`` after it.

    ``others`` [N, L] replace the later samples. Memory grows with N times the width of the band of lags.
    """
    rows = np.arange(max(1, len(vectors) - lags[0]))
    later = vectors if others is None else others
    return _best_path(vectors[: len(rows)], later, rows + lags[0], lags[1] - lags[0] + 1)


def _best_path(a: Values, b: Values, low: Indices, width: int) -> WarpingPath:
    """Find the path of greatest gain within columns ``low[i] .. low[i] + width - 1`` of every row i.

    Row by row: moves along a row are a running maximum over prefix sums, so no Python loop runs over columns.
    """
    count = len(a)
    back = np.full((count, width), _START, np.int8)
    previous = np.full(width, -np.inf)
    best, best_at = -np.inf, (0, 0)
    block, dense = 256, bool(low[-1] == low[0])
    products: Values = np.empty((0, 0), np.float32)
    for row in range(count):
        if dense:
            if row % block == 0:
                products = a[row : row + block] @ b.T
            cost = 1 - products[row % block].astype(np.float64)
        else:
            cost = np.full(width, 4.0)
            first, last = max(0, low[row]), min(len(b), low[row] + width)
            if last > first:
                cost[first - low[row] : last - low[row]] = 1 - b[first:last] @ a[row]
        gain = SKIP_COST - cost
        shift = int(low[row] - low[row - 1]) if row else 0
        above = _shifted(previous, shift)
        diagonal = _shifted(previous, shift - 1)
        step = np.where(diagonal + gain > above, _DIAGONAL, _UP)
        base = np.maximum(diagonal + 2 * gain, above + gain)
        fresh = base < 2 * gain
        base = np.where(fresh, 2 * gain, base)
        sums = np.cumsum(gain)
        current = sums + np.maximum.accumulate(base - sums)
        along = current > base + 1e-9
        back[row] = np.where(along, _ALONG, np.where(fresh, _START, step))
        here = int(current.argmax())
        if current[here] > best:
            best, best_at = float(current[here]), (row, here)
        previous = current
    return _traced(back, low, best_at, best)


def _shifted(values: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """Shift values [W] left by ``by`` columns; fill with minus infinity."""
    if by == 0:
        return values
    out = np.full_like(values, -np.inf)
    if by > 0:
        out[:-by] = values[by:]
    else:
        out[-by:] = values[:by]
    return out


def _traced(back: NDArray[np.int8], low: Indices, end: tuple[int, int], gain: float) -> WarpingPath:
    row, column = end
    rows, columns = [], []
    while True:
        rows.append(row)
        columns.append(column + int(low[row]))
        move = back[row, column]
        if move == _START:
            break
        if move == _ALONG:
            column -= 1
            continue
        column += int(low[row] - low[row - 1]) - (move == _DIAGONAL)
        row -= 1
    index_a, index_b = np.array(rows[::-1]), np.array(columns[::-1])
    part = _without_hanging_ends(index_a, index_b)
    return WarpingPath(index_a[part], index_b[part], gain)


def _without_hanging_ends(index_a: Indices, index_b: Indices) -> slice:
    """Return the path without the ends at which one sample of one clip matches many of the other.

    Where one clip ends, the other continues through frames that still look similar.
    """
    start = max(int(np.flatnonzero(index == index[0])[-1]) for index in (index_a, index_b))
    stop = min(int(np.flatnonzero(index == index[-1])[0]) for index in (index_a, index_b)) + 1
    return slice(start, stop) if start < stop else slice(0, len(index_a))
