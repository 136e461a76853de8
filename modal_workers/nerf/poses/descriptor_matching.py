"""Brute-force matching of feature descriptors: mutual nearest neighbours with a ratio test. Pure numpy.

pycolmap's matcher is not used: on a CPU it searches an index that misses some nearest neighbours, and two of its
threads disturb each other, so that on a busy machine a pair now and then loses most of its matches (94 instead of 277;
in two of twenty runs some pair differed). Here every product is a sum of whole numbers below 2**24, which float32 holds
exactly: the same descriptors give the same matches in any order of summation.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: Length of a descriptor: COLMAP stores unit vectors times 512 as bytes.
NORM: Final = 512.0
#: Ratio test of Lowe, on angles; and the largest angle of a match, rad.
RATIO: Final = 0.8
FARTHEST_RAD: Final = 0.7
#: Rows compared at once: their products fit into the cache while four results are read from them.
_ROWS: Final = 256


def match_descriptors(one: Floats, other: Floats) -> NDArray[np.uint32]:
    """Return the mutual nearest neighbours that pass the ratio test from both sides.

    As COLMAP's ``cross_check``, ``max_ratio`` and ``max_distance``, each with its default.

    Args:
        one: Descriptors [N, 128], whole numbers from 0 to 255.
        other: Descriptors [M, 128].

    Returns:
        [K, 2], ascending: the row in ``one``, the row in ``other``.
    """
    if not len(one) or not len(other):
        return np.zeros((0, 2), np.uint32)
    nearest, first, second, best = _nearest_rows(one, other)
    rows = np.flatnonzero(_passes_ratio_test(first, second) & (first >= best[nearest]))
    columns = nearest[rows]
    # Second nearest from the other side, only for the remaining candidates.
    back = np.empty(len(rows), np.float32)
    for begin in range(0, len(rows), _ROWS):
        part = slice(begin, begin + _ROWS)
        similarity = other[columns[part]] @ one.T
        similarity[np.arange(len(similarity)), rows[part]] = -1
        back[part] = similarity.max(axis=1)
    accepted = _passes_ratio_test(first[rows], back)
    return np.stack([rows[accepted], columns[accepted]], axis=1).astype(np.uint32)


def _nearest_rows(one: Floats, other: Floats) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    """Return per row the nearest in ``other``, its and the second similarity, and the best similarity per column."""
    nearest = np.empty(len(one), np.intp)
    first, second = np.empty(len(one), np.float32), np.empty(len(one), np.float32)
    best = np.full(len(other), -1, np.float32)
    buffer = np.empty((min(_ROWS, len(one)), len(other)), np.float32)
    transposed = other.T
    for begin in range(0, len(one), _ROWS):
        part = slice(begin, min(begin + _ROWS, len(one)))
        similarity = np.matmul(one[part], transposed, out=buffer[: part.stop - begin])
        np.maximum(best, similarity.max(axis=0), out=best)
        number = np.arange(len(similarity))
        nearest[part] = similarity.argmax(axis=1)
        first[part] = similarity[number, nearest[part]]
        similarity[number, nearest[part]] = -1
        second[part] = similarity.max(axis=1)
    return nearest, first, second, best


def _passes_ratio_test(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Return where the nearest passes distance and ratio test; a similarity of -1 means there is no second."""
    near, next_near = _angle(first), _angle(second)
    clear: NDArray[np.bool_] = (near <= FARTHEST_RAD) & (near < RATIO * next_near)
    return clear


def _angle(similarity: Floats) -> NDArray[np.float64]:
    angle: NDArray[np.float64] = np.arccos(np.clip(similarity.astype(np.float64) / NORM**2, -1.0, 1.0))
    return angle
