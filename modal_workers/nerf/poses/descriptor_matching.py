"""Which features of two photos are the same: each one's nearest in the other, by comparing all with all. Pure, numpy.

Not pycolmap's matcher: on a CPU it searches an index that finds most of the nearest, and its wheel multiplies matrices
in a way that two threads disturb each other, so that on a busy machine a pair now and then loses most of its matches
(94 for 277; in two of twenty runs some pair differed). Here every product is a sum of whole numbers below 2**24, which
float32 holds exactly: the same descriptors give the same matches whatever adds them up in which order.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: The length of a descriptor: COLMAP stores them as bytes of 512 times a vector of length 1.
NORM: Final = 512.0
#: Of Lowe's test: the nearest is nearer than this share of the second nearest (angles); and no match is farther, rad.
RATIO: Final = 0.8
FARTHEST_RAD: Final = 0.7
#: Rows that are compared at once: their products stay in the cache while four things are read off them.
_ROWS: Final = 256


def match_descriptors(one: Floats, other: Floats) -> NDArray[np.uint32]:
    """Give pairs of features that are each other's nearest, and clearly so from both sides.

    As COLMAP's ``cross_check``, ``max_ratio`` and ``max_distance``, each with its default.

    Args:
        one: Descriptors [N, 128], whole numbers from 0 to 255.
        other: Descriptors [M, 128].

    Returns:
        [K, 2], rising: the row in ``one``, the row in ``other``.
    """
    if not len(one) or not len(other):
        return np.zeros((0, 2), np.uint32)
    nearest, first, second, best = _rows(one, other)
    rows = np.flatnonzero(_clear(first, second) & (first >= best[nearest]))
    columns = nearest[rows]
    # The second nearest from the other side, only of those that are still in question.
    back = np.empty(len(rows), np.float32)
    for begin in range(0, len(rows), _ROWS):
        part = slice(begin, begin + _ROWS)
        likeness = other[columns[part]] @ one.T
        likeness[np.arange(len(likeness)), rows[part]] = -1
        back[part] = likeness.max(axis=1)
    sure = _clear(first[rows], back)
    return np.stack([rows[sure], columns[sure]], axis=1).astype(np.uint32)


def _rows(one: Floats, other: Floats) -> tuple[NDArray[np.intp], Floats, Floats, Floats]:
    """Give each row's most alike in ``other``, how alike that and the next are, and the most of each of ``other``."""
    nearest = np.empty(len(one), np.intp)
    first, second = np.empty(len(one), np.float32), np.empty(len(one), np.float32)
    best = np.full(len(other), -1, np.float32)
    room = np.empty((min(_ROWS, len(one)), len(other)), np.float32)
    across = other.T
    for begin in range(0, len(one), _ROWS):
        part = slice(begin, min(begin + _ROWS, len(one)))
        likeness = np.matmul(one[part], across, out=room[: part.stop - begin])
        np.maximum(best, likeness.max(axis=0), out=best)
        number = np.arange(len(likeness))
        nearest[part] = likeness.argmax(axis=1)
        first[part] = likeness[number, nearest[part]]
        likeness[number, nearest[part]] = -1
        second[part] = likeness.max(axis=1)
    return nearest, first, second, best


def _clear(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """Tell where the more alike of two is near enough, and much nearer than the second; -1 is no second at all."""
    near, next_near = _angle(first), _angle(second)
    clear: NDArray[np.bool_] = (near <= FARTHEST_RAD) & (near < RATIO * next_near)
    return clear


def _angle(likeness: Floats) -> NDArray[np.float64]:
    angle: NDArray[np.float64] = np.arccos(np.clip(likeness.astype(np.float64) / NORM**2, -1.0, 1.0))
    return angle
