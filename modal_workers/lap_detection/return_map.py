"""The return map of a drive: when the car is next at the place of each moment. Pure.

A drive of several laps matches itself one lap later. In the matrix of similarities of all moments this is one monotone
path beside the diagonal, which dynamic time warping finds. Following it from any moment leads from lap to lap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.road_video.descriptors import CELLS, DIRECTIONS, IMAGE_HALVES, crop_vectors
from modal_workers.road_video.moving_samples import MovingSamples
from modal_workers.road_video.time_warping import WarpingPath, find_later_path

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

#: Moments a second that are compared with each other, and at most how many in all.
MAP_RATE_HZ: Final = 8.0
MAX_MOMENTS: Final = 4000
#: Gain per matched sample below which a stretch is not the same road: see ``MIN_GAIN_DENSITY`` of lap_compare, which
#: has the figures. A path of a session is the best of far more candidates, so more is asked for.
MIN_DENSITY: Final = 0.28
MIN_PATH_S: Final = 4.0
#: What is found beside the best path must have this share of its density: it is the same road in the same video.
MIN_SHARE_OF_BEST: Final = 0.4
#: A path must gain this many times what the best path to mirrored frames gains.
MIN_OVER_CHANCE: Final = 2.0
#: A path with half the lag and at least this share of the density passes the place in between: that is the lap.
SHORTER_DENSITY: Final = 0.7
SHORTER_COVERAGE: Final = 0.5
#: The halves of the picture, matched separately, agree on the lag to this or the match is one of similar scenery.
MAX_HALVES_S: Final = 1.5


@dataclass(frozen=True)
class ReturnPath:
    """A stretch of the map. Shapes: from_s, to_s [M], rising, on the clock of the moving car."""

    from_s: Floats
    to_s: Floats
    density: float  # gain per matched moment
    over_chance: float  # its gain over that of the best path to mirrored frames, which show no place of this road
    halves_apart_s: float  # median disagreement of the left and the right half of the picture

    @property
    def is_same_road(self) -> bool:
        """Whether this is a match of one road, not of similar scenery."""
        return (
            self.from_s[-1] - self.from_s[0] >= MIN_PATH_S
            and self.density >= MIN_DENSITY
            and self.over_chance >= MIN_OVER_CHANCE
            and self.halves_apart_s <= MAX_HALVES_S
        )

    def later(self, clock_s: float) -> float | None:
        """Return when the car is next at the place of a moment; None outside of the stretch."""
        if not self.from_s[0] <= clock_s <= self.from_s[-1]:
            return None
        return float(np.interp(clock_s, self.from_s, self.to_s))

    def earlier(self, clock_s: float) -> float | None:
        """Return when the car was last at the place of a moment; None outside of the stretch."""
        if not self.to_s[0] <= clock_s <= self.to_s[-1]:
            return None
        return float(np.interp(clock_s, self.to_s, self.from_s))


@dataclass(frozen=True)
class Moments:
    """Evenly spaced moments of the moving car. Shapes: clock_s [N], vectors [N, L] unit."""

    clock_s: Floats
    vectors: Values
    interval_s: float


def moments_of(moving: MovingSamples) -> Moments:
    """Thin out the moving samples to at most ``MAP_RATE_HZ`` and ``MAX_MOMENTS``."""
    clock_s = moving.clock_s
    interval_s = max(1 / MAP_RATE_HZ, float(clock_s[-1] - clock_s[0]) / MAX_MOMENTS)
    wanted = np.arange(float(clock_s[0]), float(clock_s[-1]), interval_s)
    index = np.unique(np.clip(np.searchsorted(clock_s, wanted), 0, len(clock_s) - 1))
    return Moments(clock_s[index], moving.vectors[index], interval_s)


def find_return_map(moments: Moments, lap_s: tuple[float, float]) -> tuple[tuple[ReturnPath, ...], ReturnPath | None]:
    """Return the stretches of the map in order, and the best one that was not good enough, if there is one.

    ``lap_s`` are the shortest and the longest lap. After the best path the moments before and after it are searched.
    """
    return _paths_within(moments, 0, len(moments.clock_s), lap_s, 0.0)


def _paths_within(
    moments: Moments, first: int, last: int, lap_s: tuple[float, float], min_density: float
) -> tuple[tuple[ReturnPath, ...], ReturnPath | None]:
    part = Moments(moments.clock_s[first:last], moments.vectors[first:last], moments.interval_s)
    lags = (max(1, int(lap_s[0] / part.interval_s)), int(lap_s[1] / part.interval_s))
    lags = (lags[0], min(lags[1], last - first - 1))
    if lags[1] - lags[0] < 2 or last - first - lags[0] < MIN_PATH_S / part.interval_s:
        return (), None
    path = _with_shortest_lag(part.vectors, find_later_path(part.vectors, lags), lags[0])
    found = _judged(part, path, lags)
    if not found.is_same_road or found.density < min_density:
        return (), found
    least = max(min_density, MIN_SHARE_OF_BEST * found.density)
    # what is left on both sides of the path, in rows and in columns
    before, _ = _paths_within(moments, first, first + int(path.index_b[0]), lap_s, least)
    after, _ = _paths_within(moments, first + int(path.index_a[-1]), last, lap_s, least)
    return (*before, found, *after), None


def _with_shortest_lag(vectors: Values, path: WarpingPath, min_lag: int) -> WarpingPath:
    """Return the path of one lap where this one is of two or more: the place is passed in between."""
    while True:
        lag = int(np.median(path.index_b - path.index_a))
        if (most := int(0.75 * lag)) - min_lag < 2:
            return path
        shorter = find_later_path(vectors, (min_lag, most))
        covered = _rows(shorter) / _rows(path)
        if covered < SHORTER_COVERAGE or _density(shorter) < SHORTER_DENSITY * _density(path):
            return path
        path = shorter


def _rows(path: WarpingPath) -> int:
    return int(path.index_a[-1] - path.index_a[0]) + 1


def _judged(part: Moments, path: WarpingPath, lags: tuple[int, int]) -> ReturnPath:
    """Return the path with the evidence for it."""
    rows, columns = path.mean_b_per_a()
    to_s = np.interp(columns, np.arange(len(part.clock_s)), part.clock_s)
    chance = find_later_path(part.vectors, lags, mirrored(part.vectors)).gain
    return ReturnPath(
        part.clock_s[rows], to_s, _density(path), path.gain / max(chance, 1e-6), _halves_apart_s(part, path)
    )


def mirrored(vectors: Values) -> Values:
    """Return the descriptors [N, L] of the mirrored frames: columns from right to left, edges leaning the other way."""
    grid = vectors.reshape(len(vectors), CELLS[1], CELLS[0], DIRECTIONS)[:, :, ::-1]
    # bin k holds angles from k to k + 1 eighths of a half turn; mirroring maps an angle to its supplement
    return np.ascontiguousarray(grid[..., ::-1]).reshape(len(vectors), -1)


def _density(path: WarpingPath) -> float:
    """Return the gain for each matched sample, as ``MIN_GAIN_DENSITY`` of lap_compare counts it."""
    longer = max(int(path.index_a[-1] - path.index_a[0]), int(path.index_b[-1] - path.index_b[0]))
    return float(path.gain / (longer + 1))


def _halves_apart_s(part: Moments, path: WarpingPath) -> float:
    """Return how far apart the lags along the path are that the left and the right half of the picture find."""
    near = int(2 * MAX_HALVES_S / part.interval_s)
    rows, columns = path.mean_b_per_a()
    found = []
    for half in range(len(IMAGE_HALVES)):
        vectors = crop_vectors(part.vectors, half)
        offsets = np.arange(-near, near + 1)
        where = np.clip(np.round(columns).astype(int)[:, None] + offsets, 0, len(vectors) - 1)
        costs = np.stack([1 - np.einsum("nl,nl->n", vectors[rows], vectors[where[:, k]]) for k in range(len(offsets))])
        found.append(offsets[_smoothed(costs).argmin(axis=0)])
    return float(np.median(np.abs(found[0] - found[1])) * part.interval_s)


def _smoothed(costs: NDArray[np.float32]) -> Floats:
    """Average costs [K, N] over a second along the path."""
    kernel = np.ones(9) / 9
    return np.stack([np.convolve(row, kernel, "same") for row in costs])


def match_costs(moments: Moments, from_s: Floats, to_s: Floats) -> Floats:
    """Return 1 - cosine [M] of the moments nearest to two lists of times [M]."""
    last = len(moments.clock_s) - 1
    index_a, index_b = (np.clip(np.searchsorted(moments.clock_s, times), 0, last) for times in (from_s, to_s))
    return np.asarray(1 - np.einsum("nl,nl->n", moments.vectors[index_a], moments.vectors[index_b]), np.float64)
