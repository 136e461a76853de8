"""Which photos show the same: points of small pictures are matched, and matches must agree with one motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.capture.checks.image_quality import ImageQuality

#: Up to so many photos every pair is tried; above it those near in order and those that look alike.
EVERY_PAIR: Final = 32
_NEIGHBOURS: Final = 4
_ALIKE: Final = 8
_WORDS: Final = 256
#: Distances of unit descriptors: a match is this much nearer than the second best (Lowe's ratio).
_RATIO: Final = 0.82
#: Matches that must agree before two photos count as showing the same; fewer do when hardly one of all disagrees.
#: Of two unlike photos up to 19 in 26 agree by chance: one matrix is fitted to them after all.
AGREEING: Final = 20
_FEWER: Final = 14
_HARDLY_ONE: Final = 0.8
_SURELY: Final = 32
_SURELY_SHARE: Final = 0.6
_AGREEING_SHARE: Final = 0.35
_OFF_PX: Final = 1.5
#: What moved less than this (share of the long side) stands still.
_STILL: Final = 0.005


@dataclass(frozen=True)
class PhotoPair:
    """What two photos have in common."""

    first: int
    second: int
    matches: int
    #: Matches that moved and agree with one motion, and those that did not move at all.
    agreeing: int
    still: int
    #: Median way of the agreeing ones, and extent of the still ones: shares of the picture's long side.
    moved: float
    still_extent: float
    #: [n, 4]: x, y in the first, x, y in the second, of the agreeing ones.
    points_px: NDArray[np.float32]

    @property
    def tied(self) -> bool:
        """Tell whether they show the same thing from two places."""
        return self.agreeing >= AGREEING or self._undisputed

    @property
    def surely_tied(self) -> bool:
        """Tell whether no chance explains that so many agree."""
        return self._undisputed or self.agreeing >= max(_SURELY, _SURELY_SHARE * (self.matches - self.still))

    @property
    def _undisputed(self) -> bool:
        return self.agreeing >= max(_FEWER, _HARDLY_ONE * (self.matches - self.still))


def match_all(looks: Sequence[ImageQuality], *, ordered: bool, tick: Callable[[float], None]) -> list[PhotoPair]:
    """Match the photos with each other; ``tick`` is told the share that is done.

    Pairs with hardly a match are left out.
    """
    wanted = candidate_pairs(looks, ordered=ordered)
    found: list[PhotoPair] = []
    for number, (first, second) in enumerate(wanted):
        if number % 16 == 0:
            tick(number / len(wanted))
        pair = match_pair(looks, first, second)
        if pair is not None:
            found.append(pair)
    return found


def candidate_pairs(looks: Sequence[ImageQuality], *, ordered: bool) -> list[tuple[int, int]]:
    """Choose the pairs that are tried, each once, the lower number first."""
    count = len(looks)
    if count <= EVERY_PAIR:
        return [(one, other) for one in range(count) for other in range(one + 1, count)]
    chosen: set[tuple[int, int]] = set()
    if ordered:
        for one in range(count):
            for step in range(1, _NEIGHBOURS + 1):
                chosen.add(_pair(one, (one + step) % count))
    alike = _likeness(looks)
    for one in range(count):
        best = np.argsort(-alike[one])[: _ALIKE * (1 if ordered else 2)]
        chosen.update(_pair(one, int(other)) for other in best if other != one)
    return sorted(chosen)


def match_pair(looks: Sequence[ImageQuality], first: int, second: int) -> PhotoPair | None:
    """Match two photos; None when they have too little in common to say anything."""
    one, other = looks[first], looks[second]
    if min(len(one.points_px), len(other.points_px)) < 8:
        return None
    here, there = _mutual(one.descriptors, other.descriptors)
    if len(here) < 10:
        return None
    a, b = one.points_px[here], other.points_px[there]
    long_side = max(*one.size_px, *other.size_px)
    way = np.linalg.norm(a - b, axis=1) / long_side
    same_size = one.size_px == other.size_px
    still = (way < _STILL) if same_size else np.zeros(len(way), bool)
    extent = float(np.ptp(a[still], axis=0).max() / long_side) if still.sum() > 1 else 0.0
    moving = np.flatnonzero(~still)
    agree = moving[_agreeing(a[moving], b[moving])]
    moved = float(np.median(way[agree])) if len(agree) else 0.0
    points = np.hstack([a[agree], b[agree]]).astype(np.float32)
    return PhotoPair(first, second, len(here), len(agree), int(still.sum()), moved, extent, points)


def _mutual(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Match descriptors that are each other's nearest and clearly so."""
    alike = one @ other.T
    nearest = alike.argmax(axis=1)
    rows = np.arange(len(one))
    best = alike[rows, nearest]
    back = alike.argmax(axis=0)[nearest] == rows
    alike[rows, nearest] = 0
    second = alike.max(axis=1)
    # |x - y|² = 2 - 2 x·y for unit vectors
    clear = (1 - best) < _RATIO**2 * (1 - second)
    kept = np.flatnonzero(back & clear)
    return kept, nearest[kept]


def _agreeing(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.int64]:
    """Give the matches that one fundamental matrix explains; none when chance would explain as many."""
    if len(a) < 10:
        return np.zeros(0, np.int64)
    cv2.setRNGSeed(0)
    try:
        matrix, inside = cv2.findFundamentalMat(a, b, cv2.USAC_FAST, _OFF_PX, 0.999, 500)
    except cv2.error:  # a sample from which no matrix can be made fails an assertion in it
        return np.zeros(0, np.int64)
    if matrix is None or inside is None:
        return np.zeros(0, np.int64)
    found = np.flatnonzero(inside.ravel())
    return found if len(found) >= max(10, _AGREEING_SHARE * len(a)) else np.zeros(0, np.int64)


def _likeness(looks: Sequence[ImageQuality]) -> NDArray[np.float32]:
    """Compare photos as bags of words, words being points of these photos (Sivic and Zisserman, ICCV 2003)."""
    everything = [one.descriptors for one in looks if len(one.descriptors)]
    count = len(looks)
    if not everything:
        return np.zeros((count, count), np.float32)
    stacked = np.vstack(everything)
    words = stacked[np.random.default_rng(0).permutation(len(stacked))[:_WORDS]]
    bags = np.zeros((count, len(words)), np.float32)
    for number, one in enumerate(looks):
        if len(one.descriptors):
            said = (one.descriptors @ words.T).argmax(axis=1)
            bags[number] = np.bincount(said, minlength=len(words))
    rarity = np.log((1 + count) / (1 + (bags > 0).sum(axis=0))) + 0.1
    bags *= rarity
    bags /= np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1e-6)
    return np.asarray(bags @ bags.T, np.float32)


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
