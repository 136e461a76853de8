"""A piece of the shuttle's track without a contact: its path in the picture and, where the court is known, in space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.rallies.flight_model import SpaceCamera, fly, place_covariance, velocity

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: Times are divided by this before their logarithm: by then drag has slowed a fast shuttle to about half its speed.
SLOWING_S: Final = 0.3
DEGREE: Final = 4
#: Standard deviation of a position, and of the coefficients before any point is seen, 720 pixels high.
NOISE_PX: Final = 2.5
_COEFFICIENT_PX: Final = 1000.0


@dataclass(frozen=True, eq=False)
class SpacePath:
    """A flight in space: place and velocity ``state`` [6] at ``origin_s``, and what was seen of it."""

    origin_s: float
    state: Floats
    covariance: Floats
    seen_s: Floats
    seen_px: Floats
    weight: float
    camera: SpaceCamera

    def place_m(self, time_s: float) -> Floats:
        """Return the place [3] at a time."""
        return np.asarray(fly(self.state[None], np.array([[time_s - self.origin_s]]))[0, 0])

    def places_m(self, times_s: Floats) -> Floats:
        """Return the places [n, 3] at times [n]."""
        return np.asarray(fly(self.state[None], (times_s - self.origin_s)[None])[0])

    def velocity_m_s(self, time_s: float) -> Floats:
        """Return the velocity [3] at a time."""
        return velocity(self.state, time_s - self.origin_s)

    def place_covariance(self, time_s: float) -> Floats:
        """Return the covariance [3, 3] of the place at a time."""
        return place_covariance(self.state, self.covariance, time_s - self.origin_s)

    def floor_deviation_m(self, time_s: float) -> float:
        """Return the standard deviation of the place on the floor at a time."""
        covariance = self.place_covariance(time_s)
        return math.sqrt(max(float(covariance[0, 0] + covariance[1, 1]), 0.0))


@dataclass(frozen=True)
class FlightPiece:
    """A piece of the track without a contact: first and last point, and its path in the picture."""

    first_frame: int
    last_frame: int
    start_s: float
    end_s: float
    #: [5, 2]: coefficients of the powers of log(1 + (t - start) / SLOWING_S), in pixels.
    coefficients: Floats
    #: Number of the chain of pieces without a long gap between them.
    chain: int
    #: Its path in space, where the court is known.
    space: SpacePath | None = None

    def position_px(self, time_s: float) -> Floats:
        """Return the place in the picture at a time near the piece."""
        return np.asarray(log_time_powers(slowed_time(np.array([time_s - self.start_s])))[0] @ self.coefficients)

    def velocity_px_s(self, time_s: float) -> Floats:
        """Return the velocity at a time near the piece."""
        elapsed = max(time_s - self.start_s, -0.5 * SLOWING_S)
        slowed = float(slowed_time(np.array([elapsed]))[0])
        slope = np.arange(DEGREE + 1) * slowed ** np.maximum(np.arange(DEGREE + 1) - 1, 0)
        return np.asarray(slope @ self.coefficients / (SLOWING_S + elapsed))


def slowed_time(elapsed_s: Floats) -> Floats:
    """Return the logarithms of times since the start of a piece."""
    return np.asarray(np.log1p(np.maximum(elapsed_s, -0.5 * SLOWING_S) / SLOWING_S))


def log_time_powers(values: Floats) -> Floats:
    """Return the powers [n, 5] of logarithms of times."""
    return np.asarray(values[:, None] ** np.arange(DEGREE + 1))


#: What is known of the coefficients before any point: without it a short piece has no solution.
RIDGE: Final = np.diag([1e-9, *[(NOISE_PX / _COEFFICIENT_PX) ** 2] * DEGREE])


def fit_piece(frames: Indices, times_s: Floats, position: Floats, chain: int) -> FlightPiece:
    """Return the piece through points [n, 2] of frames [n]."""
    start_s = float(times_s[frames[0]])
    powers = log_time_powers(slowed_time(times_s[frames] - start_s))
    offset = position - position[0]
    fitted = np.linalg.solve(powers.T @ powers + RIDGE, powers.T @ offset)
    fitted[0] += position[0]
    end_s = float(times_s[frames[-1]])
    return FlightPiece(int(frames[0]), int(frames[-1]), start_s, end_s, fitted, chain)
