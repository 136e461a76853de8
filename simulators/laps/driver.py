"""Drive of a driver around a circuit: speed by place, line across the road, place at every time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulators.laps.circuit import STEP_M, Circuit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Driver:
    """Parameters of a driver. All drivers obey the same physics: grip, power, brakes."""

    seed: int = 0
    top_speed_mps: float = 52.0
    grip_mps2: float = 13.0
    power_mps2: float = 6.5
    braking_mps2: float = 10.0
    unevenness: float = 0.05  # variation of speed along the lap, one standard deviation
    line_m: float = 1.2  # deviation of the line from the centre
    start_m: float = 0.0  # place of the first frame
    distance_m: float | None = None  # None: one lap
    slow_places: tuple[tuple[float, float, float], ...] = ()  # (place_m, length_m, factor): mistakes, traffic
    stops: tuple[tuple[float, float], ...] = field(default=())  # (place_m, seconds at rest)


@dataclass(frozen=True)
class DrivenLap:
    """A driven lap: place and line against time, finely sampled. Shapes: all [N]; time_s is non-decreasing."""

    time_s: Floats
    place_m: Floats  # unwrapped: grows past the circuit's length
    offset_m: Floats
    acceleration_mps2: Floats

    def place_at(self, time_s: Floats) -> Floats:
        """Return the place at times [N]."""
        return np.interp(time_s, self.time_s, self.place_m)


def simulate_lap(circuit: Circuit, driver: Driver) -> DrivenLap:
    """Drive the circuit: speed is limited by curvature, power and brakes, and varies by the driver's seed."""
    distance = circuit.length_m if driver.distance_m is None else driver.distance_m
    place = driver.start_m + np.arange(0.0, distance + STEP_M, STEP_M)
    random = np.random.default_rng([driver.seed, 23])
    limit = np.sqrt(driver.grip_mps2 / np.maximum(np.abs(circuit.curvature_at(place)), 1e-4))
    limit = np.minimum(limit, driver.top_speed_mps) * np.exp(
        driver.unevenness * _smooth_noise(random, len(place), 90.0)
    )
    for slow_m, length, factor in driver.slow_places:
        away = np.abs((place - slow_m + circuit.length_m / 2) % circuit.length_m - circuit.length_m / 2)
        limit *= 1 - (1 - factor) * np.exp(-0.5 * (away / (length / 2.5)) ** 2)
    for stop_m, _ in driver.stops:
        limit = np.minimum(limit, np.sqrt(2 * 3.5 * np.abs(place - stop_m) + 0.3))
    speed = _reachable(limit, driver)
    step_s = STEP_M / (0.5 * (speed[1:] + speed[:-1]))
    for stop_m, rest_s in driver.stops:
        step_s[int(np.clip(np.argmin(np.abs(place - stop_m)), 0, len(step_s) - 1))] += rest_s
    time = np.concatenate([[0.0], np.cumsum(step_s)])
    apex = _smooth_noise(random, len(place), 70.0) * driver.line_m * 0.7
    cut = np.clip(np.convolve(circuit.curvature_at(place), np.ones(41) / 41, "same") * 60.0, -1.5, 1.5)
    rise = np.gradient(speed**2, STEP_M) / 2
    return DrivenLap(time, place, np.clip(apex + cut * driver.line_m, -3.4, 3.4), rise)


def _reachable(limit_mps: Floats, driver: Driver) -> Floats:
    """Limit a speed profile by brakes (backward) and engine power (forward)."""
    squared = limit_mps**2
    for index in range(len(squared) - 2, -1, -1):
        squared[index] = min(squared[index], squared[index + 1] + 2 * driver.braking_mps2 * STEP_M)
    for index in range(1, len(squared)):
        pull = driver.power_mps2 * (1 - 0.7 * squared[index - 1] / driver.top_speed_mps**2)
        squared[index] = min(squared[index], squared[index - 1] + 2 * max(pull, 0.3) * STEP_M)
    return np.sqrt(np.maximum(squared, 0.09))


def _smooth_noise(random: np.random.Generator, count: int, length_m: float) -> Floats:
    """Return smooth noise [count] of unit variance with features about ``length_m`` long."""
    width = max(3, int(length_m / STEP_M))
    kernel = np.hanning(width)
    noise = np.convolve(random.standard_normal(count + width), kernel, "same")[width // 2 :][:count]
    return np.asarray(noise / np.sqrt(np.sum(kernel**2)))
