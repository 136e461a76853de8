"""Overlap of the photos: features of small images are matched, and the matches must agree with one motion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.capture.checks.image_quality import ImageQuality

#: Up to this number of photos every pair is matched; above it, neighbours in order and similar photos.
EVERY_PAIR: Final = 32
_NEIGHBOURS: Final = 4
_ALIKE: Final = 8
_WORDS: Final = 256
#: Lowe's ratio: a match is this much nearer than the second nearest; distances of unit descriptors.
_RATIO: Final = 0.82
#: Matches that must agree before two photos count as overlapping; fewer are enough when almost none disagrees. Of two
#: unrelated photos up to 19 in 26 agree by chance, because the matrix is fitted to them.
AGREEING: Final = 20
_AGREEING_MIN: Final = 14
_ALMOST_ALL: Final = 0.8
_SURELY: Final = 32
_SURELY_SHARE: Final = 0.6
_AGREEING_SHARE: Final = 0.35
_OFF_PX: Final = 1.5
#: A match that moved less than this (share of the long side) did not move.
_STILL: Final = 0.005


@dataclass(frozen=True)
class PhotoPair:
    """Matches between two photos."""

    first: int
    second: int
    matches: int
    #: Matches that moved and agree with one motion, and matches that did not move.
    agreeing: int
    still: int
    #: Median motion of the agreeing matches, and extent of the static ones: shares of the long side of the image.
    moved: float
    still_extent: float
    #: [n, 4]: x, y in the first photo, x, y in the second, of the agreeing matches.
    points_px: NDArray[np.float32]

    @property
    def tied(self) -> bool:
        """Whether both show the same object from two places."""
        return self.agreeing >= AGREEING or self._undisputed

    @property
    def surely_tied(self) -> bool:
        """Whether so many matches agree that chance cannot explain it."""
        return self._undisputed or self.agreeing >= max(_SURELY, _SURELY_SHARE * (self.matches - self.still))

    @property
    def _undisputed(self) -> bool:
        return self.agreeing >= max(_AGREEING_MIN, _ALMOST_ALL * (self.matches - self.still))


def match_all(qualities: Sequence[ImageQuality], *, ordered: bool, tick: Callable[[float], None]) -> list[PhotoPair]:
    """Match the photos with each other and return the pairs; ``tick`` receives the finished share.

    Pairs with hardly any match are left out.
    """
    pairs = candidate_pairs(qualities, ordered=ordered)
    found: list[PhotoPair] = []
    for number, (first, second) in enumerate(pairs):
        if number % 16 == 0:
            tick(number / len(pairs))
        pair = match_pair(qualities, first, second)
        if pair is not None:
            found.append(pair)
    return found


def candidate_pairs(qualities: Sequence[ImageQuality], *, ordered: bool) -> list[tuple[int, int]]:
    """Return the pairs to match, each once, the lower number first."""
    count = len(qualities)
    if count <= EVERY_PAIR:
        return [(first, second) for first in range(count) for second in range(first + 1, count)]
    chosen: set[tuple[int, int]] = set()
    if ordered:
        for number in range(count):
            for step in range(1, _NEIGHBOURS + 1):
                chosen.add(_pair(number, (number + step) % count))
    alike = _likeness(qualities)
    for number in range(count):
        best = np.argsort(-alike[number])[: _ALIKE * (1 if ordered else 2)]
        chosen.update(_pair(number, int(other)) for other in best if other != number)
    return sorted(chosen)


def match_pair(qualities: Sequence[ImageQuality], first: int, second: int) -> PhotoPair | None:
    """Match two photos; return None when they have too little in common for any statement."""
    one, other = qualities[first], qualities[second]
    if min(len(one.points_px), len(other.points_px)) < 8:
        return None
    here, there = _mutual(one.descriptors, other.descriptors)
    if len(here) < 10:
        return None
    a, b = one.points_px[here], other.points_px[there]
    long_side = max(*one.size_px, *other.size_px)
    motion = np.linalg.norm(a - b, axis=1) / long_side
    same_size = one.size_px == other.size_px
    still = (motion < _STILL) if same_size else np.zeros(len(motion), bool)
    extent = float(np.ptp(a[still], axis=0).max() / long_side) if still.sum() > 1 else 0.0
    moving = np.flatnonzero(~still)
    agree = moving[_agreeing(a[moving], b[moving])]
    moved = float(np.median(motion[agree])) if len(agree) else 0.0
    points = np.hstack([a[agree], b[agree]]).astype(np.float32)
    return PhotoPair(first, second, len(here), len(agree), int(still.sum()), moved, extent, points)


def _mutual(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the matches of descriptors that are mutual nearest neighbours and pass the ratio test."""
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
    """Return the matches that one fundamental matrix explains; none where chance would explain as many."""
    if len(a) < 10:
        return np.zeros(0, np.int64)
    cv2.setRNGSeed(0)
    try:
        matrix, inside = cv2.findFundamentalMat(a, b, cv2.USAC_FAST, _OFF_PX, 0.999, 500)
    except cv2.error:  # OpenCV asserts on a degenerate sample
        return np.zeros(0, np.int64)
    if matrix is None or inside is None:
        return np.zeros(0, np.int64)
    found = np.flatnonzero(inside.ravel())
    return found if len(found) >= max(10, _AGREEING_SHARE * len(a)) else np.zeros(0, np.int64)


def _likeness(qualities: Sequence[ImageQuality]) -> NDArray[np.float32]:
    """Compare photos as bags of visual words sampled from their own features (Sivic and Zisserman, ICCV 2003)."""
    everything = [quality.descriptors for quality in qualities if len(quality.descriptors)]
    count = len(qualities)
    if not everything:
        return np.zeros((count, count), np.float32)
    stacked = np.vstack(everything)
    words = stacked[np.random.default_rng(0).permutation(len(stacked))[:_WORDS]]
    bags = np.zeros((count, len(words)), np.float32)
    for number, quality in enumerate(qualities):
        if len(quality.descriptors):
            nearest = (quality.descriptors @ words.T).argmax(axis=1)
            bags[number] = np.bincount(nearest, minlength=len(words))
    rarity = np.log((1 + count) / (1 + (bags > 0).sum(axis=0))) + 0.1
    bags *= rarity
    bags /= np.maximum(np.linalg.norm(bags, axis=1, keepdims=True), 1e-6)
    return np.asarray(bags @ bags.T, np.float32)


def _pair(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
