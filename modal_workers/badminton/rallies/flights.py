"""Cuts the shuttle's track into flights: stretches in which only gravity and drag act on it.

A flight's path in the picture is a smooth function of the logarithm of the time since it began, because drag slows a
shuttle the more the faster it is. Pieces are chosen by dynamic programming: the sum of the squared residuals and of a
cost for each piece is least. No point is added: a gap stays a gap, whether a flight goes on behind it or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.shuttle.linking import REFERENCE_HEIGHT_PX, SegmentFrames
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: A flight may leave the picture at the top for this long; after a longer gap nothing joins the two sides.
LONGEST_GAP_S: Final = 1.0
LONGEST_FLIGHT_S: Final = 3.0
#: Times are divided by this before their logarithm: by then drag has slowed a fast shuttle to about half its speed.
SLOWING_S: Final = 0.3
#: Standard deviation of a position, and of the coefficients before any point is seen, 720 pixels high.
_NOISE_PX: Final = 2.5
_COEFFICIENT_PX: Final = 1000.0
_DEGREE: Final = 4
#: Costs in units of squared standard deviations: of one more flight, and of a point that belongs to none.
_FLIGHT_COST: Final = 22.0
_OUTLIER_COST: Final = 14.0
_FEWEST_POINTS: Final = 3
#: Points closer in time than this are thinned out: they cost time and add little.
_FASTEST_HZ: Final = 36.0


@dataclass(frozen=True)
class FlightPiece:
    """A piece of the track without a contact: first and last point, and its path in the picture."""

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    point_count: int
    #: [5, 2]: coefficients of the powers of log(1 + (t - start) / SLOWING_S), in pixels.
    coefficients: Floats
    #: Number of the chain of pieces without a long gap between them.
    chain: int
    residual_px: float

    def position_px(self, time_s: float) -> Floats:
        """Return the place at a time near the piece."""
        return np.asarray(_powers(_slowed(np.array([time_s - self.start_s])))[0] @ self.coefficients)

    def velocity_px_s(self, time_s: float) -> Floats:
        """Return the velocity at a time near the piece."""
        elapsed = max(time_s - self.start_s, -0.5 * SLOWING_S)
        slowed = float(_slowed(np.array([elapsed]))[0])
        slope = np.arange(_DEGREE + 1) * slowed ** np.maximum(np.arange(_DEGREE + 1) - 1, 0)
        return np.asarray(slope @ self.coefficients / (SLOWING_S + elapsed))


def find_flights(
    track: ShuttleTrack, times_s: Floats, segments: SegmentFrames, picture_height_px: int
) -> list[FlightPiece]:
    """Return the flights in order of time."""
    scale = picture_height_px / REFERENCE_HEIGHT_PX
    pieces: list[FlightPiece] = []
    for chain, frames in enumerate(_chains(track, times_s, segments)):
        if len(frames) < _FEWEST_POINTS:
            continue
        position = track.position_px[frames].astype(float)
        for low, high in _cut(times_s[frames], position, scale):
            pieces.append(_piece(frames[low:high], times_s, position[low:high], chain))
    return pieces


def _chains(track: ShuttleTrack, times_s: Floats, segments: SegmentFrames) -> Iterator[Indices]:
    """Yield the frames with a position, cut at long gaps and changes of the camera."""
    for first, last, _court in segments:
        frames = first + np.flatnonzero(np.isfinite(track.position_px[first : last + 1, 0]))
        if not len(frames):
            continue
        step = float(np.median(np.diff(times_s[first : last + 1]))) if last > first else 1.0
        stride = max(1, round(1 / max(step, 1e-6) / _FASTEST_HZ))
        frames = frames[np.unique(frames // stride, return_index=True)[1]]
        breaks = np.flatnonzero(np.diff(times_s[frames]) > LONGEST_GAP_S) + 1
        yield from np.split(frames, breaks)


def _slowed(elapsed_s: Floats) -> Floats:
    return np.asarray(np.log1p(np.maximum(elapsed_s, -0.5 * SLOWING_S) / SLOWING_S))


def _powers(values: Floats) -> Floats:
    return np.asarray(values[:, None] ** np.arange(_DEGREE + 1))


#: What is known of the coefficients before any point: without it a short piece has no solution.
_RIDGE: Final = np.diag([1e-9, *[(_NOISE_PX / _COEFFICIENT_PX) ** 2] * _DEGREE])


def _cut(times_s: Floats, position: Floats, scale: float) -> list[tuple[int, int]]:
    """Return the ranges of points of the best pieces; points in none of them are outliers."""
    count = len(times_s)
    best = np.full(count + 1, np.inf)
    best[0] = 0.0
    begin = np.full(count + 1, -1)
    unit = (_NOISE_PX * scale) ** 2
    for start in range(count):
        if best[start] + _OUTLIER_COST < best[start + 1]:
            best[start + 1], begin[start + 1] = best[start] + _OUTLIER_COST, -1
        end = int(np.searchsorted(times_s, times_s[start] + LONGEST_FLIGHT_S, side="right"))
        if end - start < _FEWEST_POINTS:
            continue
        total = best[start] + _residuals(times_s[start:end], position[start:end]) / unit + _FLIGHT_COST
        total[: _FEWEST_POINTS - 1] = np.inf
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
    powers = _powers(_slowed(times_s - times_s[0]))
    offset = position - position[0]
    moments = np.cumsum(powers[:, :, None] * powers[:, None], axis=0) + _RIDGE
    products = np.cumsum(powers[:, :, None] * offset[:, None], axis=0)
    squares = np.cumsum((offset**2).sum(1))
    fitted = np.linalg.solve(moments, products)
    return np.asarray(np.maximum(0.0, squares - (products * fitted).sum((1, 2))))


def _piece(frames: Indices, times_s: Floats, position: Floats, chain: int) -> FlightPiece:
    start_s = float(times_s[frames[0]])
    powers = _powers(_slowed(times_s[frames] - start_s))
    offset = position - position[0]
    fitted = np.linalg.solve(powers.T @ powers + _RIDGE, powers.T @ offset)
    residual = float(np.sqrt(((offset - powers @ fitted) ** 2).sum(1).mean()))
    fitted[0] += position[0]
    end_s = float(times_s[frames[-1]])
    return FlightPiece(int(frames[0]), int(frames[-1]), start_s, end_s, len(frames), fitted, chain, residual)
