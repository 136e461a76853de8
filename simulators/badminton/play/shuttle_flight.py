"""Flight of a shuttle: gravity and a drag that grows with the square of the speed.

Source: L. M. Chen, Y. H. Pan, Y. J. Chen, "A study of shuttlecock's trajectory in badminton", 2009: terminal velocity
6.8 m/s; the drag follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GRAVITY_MPS2: Final = 9.81
TERMINAL_VELOCITY_MPS: Final = 6.8
#: Height of the centre of a shuttle that lies on the floor.
RESTING_HEIGHT_M: Final = 0.03
FASTEST_MPS: Final = 100.0
_LONGEST_S: Final = 20.0
_STEP_S: Final = 0.005
#: Long enough to aim with: the place differs by less than a millimetre.
_COARSE_STEP_S: Final = 0.03
_DRAG_PER_M: Final = GRAVITY_MPS2 / TERMINAL_VELOCITY_MPS**2


@dataclass(frozen=True)
class ShuttleFlight:
    """A flight in a vertical plane. Shapes: time_s [T], xyz_m [T, 3]; it ends at the height that it was aimed at."""

    time_s: Floats
    xyz_m: Floats

    @property
    def duration_s(self) -> float:
        """Time from the hit to the end."""
        return float(self.time_s[-1])

    def at(self, time_s: float) -> Floats:
        """Return the position [3] at a time since the hit."""
        return np.array([np.interp(time_s, self.time_s, self.xyz_m[:, axis]) for axis in range(3)])

    def until(self, time_s: float) -> ShuttleFlight:
        """Return the part up to a time."""
        kept = self.time_s < time_s
        return ShuttleFlight(np.append(self.time_s[kept], time_s), np.vstack([self.xyz_m[kept], self.at(time_s)]))

    def crossing_s(self, y_m: float) -> float | None:
        """Return when it crosses the vertical plane at ``y_m``; None if it does not."""
        y = self.xyz_m[:, 1]
        if (y[0] - y_m) * (y[-1] - y_m) >= 0:
            return None
        order = 1 if y[-1] > y[0] else -1
        return float(np.interp(y_m * order, y * order, self.time_s))


def fly(start_m: Floats, velocity_mps: Floats, end_height_m: float) -> ShuttleFlight:
    """Return the flight from a point [3] with a velocity [3] until it has fallen to a height."""
    across = math.hypot(velocity_mps[0], velocity_mps[1])
    ways, heights, times = _path(float(start_m[2]), across, float(velocity_mps[2]), end_height_m, _STEP_S)
    direction = velocity_mps[:2] / max(across, 1e-9)
    xy = start_m[:2] + np.array(ways)[:, None] * direction
    return ShuttleFlight(np.array(times), np.column_stack([xy, heights]))


def aim(start_m: Floats, target_m: Floats, elevation_rad: float) -> Floats | None:
    """Return the velocity [3] at which a shuttle hit at an elevation falls onto a target [3]; None if none does."""
    offset = target_m[:2] - start_m[:2]
    wanted = math.hypot(offset[0], offset[1])
    rise, run = math.sin(elevation_rad), math.cos(elevation_rad)

    def reach(speed: float) -> float:
        ways, heights, _ = _path(float(start_m[2]), speed * run, speed * rise, float(target_m[2]), _COARSE_STEP_S)
        # A flight that never rises to the target is too short.
        return ways[-1] if heights[-1] == target_m[2] else -1.0

    low, high = 0.2, FASTEST_MPS
    if wanted < 0.05 or reach(high) < wanted:
        return None
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reach(middle) < wanted else (low, middle)
    # A flat shot at a target above it passes it on the way up, or does not get there.
    if reach(high) - wanted > 0.02:
        return None
    return np.array([*(offset / wanted * high * run), high * rise])


def _path(
    height: float, across: float, upward: float, end_height: float, step_s: float
) -> tuple[list[float], list[float], list[float]]:
    """Integrate by Runge and Kutta's fourth order: ways, heights and times.

    The last is at ``end_height``, on the way down; a path that does not rise to it ends at its highest point.
    """
    way, time = 0.0, 0.0
    ways, heights, times = [way], [height], [time]
    # One step is at most a tenth of the time in which the drag would stop the shuttle.
    while time < _LONGEST_S:
        speed = math.hypot(across, upward)
        step = min(step_s, 0.1 / (_DRAG_PER_M * speed + 1e-9))
        a1x, a1z = _slowed(across, upward)
        v2x, v2z = across + a1x * step / 2, upward + a1z * step / 2
        a2x, a2z = _slowed(v2x, v2z)
        v3x, v3z = across + a2x * step / 2, upward + a2z * step / 2
        a3x, a3z = _slowed(v3x, v3z)
        v4x, v4z = across + a3x * step, upward + a3z * step
        a4x, a4z = _slowed(v4x, v4z)
        next_way = way + step / 6 * (across + 2 * v2x + 2 * v3x + v4x)
        next_height = height + step / 6 * (upward + 2 * v2z + 2 * v3z + v4z)
        across += step / 6 * (a1x + 2 * a2x + 2 * a3x + a4x)
        upward += step / 6 * (a1z + 2 * a2z + 2 * a3z + a4z)
        if next_height <= end_height and next_height < height:
            if height < end_height:
                break
            share = (height - end_height) / (height - next_height)
            ways.append(way + share * (next_way - way))
            heights.append(end_height)
            times.append(time + max(share, 1e-6) * step)
            break
        way, height, time = next_way, next_height, time + step
        ways.append(way)
        heights.append(height)
        times.append(time)
    return ways, heights, times


def _slowed(across: float, upward: float) -> tuple[float, float]:
    drag = _DRAG_PER_M * math.hypot(across, upward)
    return -drag * across, -drag * upward - GRAVITY_MPS2
