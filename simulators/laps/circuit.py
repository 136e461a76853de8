"""A generated circuit: a closed centre line with headings and curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROAD_WIDTH_M: Final = 10.0
STEP_M: Final = 0.5


@dataclass(frozen=True)
class Circuit:
    """A closed road in a flat world, sampled every ``STEP_M`` along its centre line.

    Shapes: point_m [P, 2] (x east, y north); heading_rad, curvature_1pm [P]. Place is arc length from the start line.
    """

    seed: int
    length_m: float
    point_m: Floats
    heading_rad: Floats
    curvature_1pm: Floats  # positive turns left

    def at(self, place_m: Floats, offset_m: Floats | float = 0.0) -> Floats:
        """Return points [N, 2] at places [N], ``offset_m`` to the left of the centre line."""
        place = np.asarray(place_m, np.float64) % self.length_m
        grid = np.arange(len(self.point_m) + 1) * STEP_M
        closed = np.vstack([self.point_m, self.point_m[:1]])
        point = np.stack([np.interp(place, grid, closed[:, axis]) for axis in (0, 1)], axis=-1)
        heading = self.heading_at(place)
        left = np.stack([-np.sin(heading), np.cos(heading)], axis=-1)
        return np.asarray(point + left * np.asarray(offset_m, np.float64)[..., None])

    def heading_at(self, place_m: Floats) -> Floats:
        """Return the direction of travel [N] in radians, counter-clockwise from east."""
        grid = np.arange(len(self.heading_rad) + 1) * STEP_M
        closed = np.append(self.heading_rad, self.heading_rad[0] + 2 * np.pi)
        return np.asarray(np.interp(np.asarray(place_m) % self.length_m, grid, closed))

    def curvature_at(self, place_m: Floats) -> Floats:
        """Return the curvature [N] in 1/m."""
        grid = np.arange(len(self.curvature_1pm) + 1) * STEP_M
        closed = np.append(self.curvature_1pm, self.curvature_1pm[0])
        return np.asarray(np.interp(np.asarray(place_m) % self.length_m, grid, closed))

    def distance_to_road_m(self, point_m: Floats) -> Floats:
        """Return the distance [N] of points [N, 2] to the centre line."""
        coarse = self.point_m[::6]
        return np.asarray(np.min(np.linalg.norm(point_m[:, None] - coarse[None], axis=-1), axis=1))


def make_circuit(seed: int, length_m: float = 1000.0) -> Circuit:
    """Generate a circuit: a circle deformed by random harmonics, repeated until no corner is tighter than 11 m."""
    random = np.random.default_rng([seed, 11])
    for attempt in range(200):
        calm = 1.0 / (1.0 + attempt / 40.0)
        point, length = _deformed_circle(random, length_m, calm)
        heading = np.unwrap(np.arctan2(*np.roll(point, -1, 0).T[::-1] - np.roll(point, 1, 0).T[::-1]))
        closed = np.append(heading, heading[0] + 2 * np.pi)
        curvature = _smooth_closed(np.diff(closed) / STEP_M, 9)
        if np.abs(curvature).max() < 1 / 11.0 and _has_clearance(point):
            return Circuit(seed, length, point, heading, curvature)
    raise ValueError(f"no drivable circuit of {length_m} m for seed {seed}; use a longer one")


def _deformed_circle(random: np.random.Generator, length_m: float, calm: float) -> tuple[Floats, float]:
    angle = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    radius = np.ones_like(angle)
    for harmonic, amplitude in ((2, 0.22), (3, 0.24), (4, 0.16), (5, 0.11), (7, 0.05)):
        radius += calm * amplitude * random.uniform(0.4, 1.0) * np.cos(harmonic * angle + random.uniform(0, 2 * np.pi))
    raw = radius[:, None] * np.stack([np.cos(angle) * random.uniform(1.0, 1.5), np.sin(angle)], axis=-1)
    closed = np.vstack([raw, raw[:1]])
    arc = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    count = round(length_m / STEP_M)
    want = np.linspace(0, arc[-1], count, endpoint=False)
    scale = count * STEP_M / arc[-1]
    return np.stack([np.interp(want, arc, closed[:, axis]) for axis in (0, 1)], -1) * scale, count * STEP_M


def _smooth_closed(values: Floats, width: int) -> Floats:
    kernel = np.hanning(width + 2)[1:-1]
    padded = np.concatenate([values[-width:], values, values[:width]])
    return np.convolve(padded, kernel / kernel.sum(), "same")[width:-width]


def _has_clearance(point: Floats) -> bool:
    """Return whether parts of the road far apart along it are also far apart on the ground."""
    coarse = point[::8]
    apart = np.linalg.norm(coarse[:, None] - coarse[None], axis=-1)
    index = np.arange(len(coarse))
    along = np.abs(index[:, None] - index[None])
    along = np.minimum(along, len(coarse) - along) * 8 * STEP_M
    return bool(apart[along > 60.0].min(initial=np.inf) > 30.0)
