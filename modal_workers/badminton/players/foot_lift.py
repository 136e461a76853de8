"""Height of the feet of a person who walks or runs: a lifted foot seems to be farther from the camera.

A low camera sees a foot that is 0.1 m above the floor 0.6 m away from where it is. Two things tell such a foot from one
that stands: in the picture it is above the other foot by more than the stance explains, and it moves over the floor,
where one that stands does not. Without this every place of somebody who moves is too far away from the camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.floor_points import LIFT_ERROR_M, FloorPoints

Floats = NDArray[np.float64]

#: Mean height of a foot's ankle above that of a standing one while the foot is swung forwards.
_MEAN_LIFT_M: Final = 0.1
_MOST_LIFT_M: Final = 0.4
#: Share of the time in which a given foot is swung, before anything is seen of it.
_SWUNG_SHARE: Final = 0.25
#: Speed of a swung foot over the floor along one axis: standard deviation. The time over which it is measured.
_SWUNG_M_S: Final = 3.0
_SPEED_S: Final = 0.2
#: Distance between the feet along the camera's view, and error of a difference of heights: standard deviations.
_STANCE_M: Final = 0.25
_HEIGHT_ERROR_M: Final = 0.045
#: What is left of the lift's error where the model is sure: jumps, and ankles that are not as high as the usual ones.
_LEAST_ERROR_M: Final = 0.02
#: A jump takes less than this, and is higher; from the second height on it is sure. Its error is this share of it.
_LONGEST_JUMP_S: Final = 0.5
_LEAST_JUMP_M: Final = 0.1
_SURE_JUMP_M: Final = 0.15
#: A place that moves away and back by less than this may be a step.
_LEAST_MOVE_M: Final = 0.6
_JUMP_ERROR: Final = 0.3
#: Time over which the median of its height is taken.
_STEADY_S: Final = 0.17
_LIFTS_M: Final = np.linspace(0.0125, _MOST_LIFT_M - 0.0125, 16)
_AT_ONCE: Final = 8192


@dataclass(frozen=True, eq=False)
class StandingPlaces:
    """Places [m, 2] as they are with both feet on the floor, and their variances [m, 2] along x and y.

    ``lift_variance_m2`` [m]: what is not known of the feet's height, as a variance of it; 0 where no feet were seen.
    """

    position_m: Floats
    variance_m2: Floats
    lift_variance_m2: Floats


def standing_places(points: FloorPoints, index: NDArray[np.int64], times_s: Floats) -> StandingPlaces:
    """Return places as they are with both feet on the floor.

    ``index``: one player's points in the order of time; ``times_s`` are those of all frames. Where no feet were seen,
    nothing changes.
    """
    lift, variance = _lift(points, index, times_s)
    jump = _jump(points, index, times_s)
    # Who is in the air has no foot on the floor beside the one that is lifted.
    lift = jump + lift * np.clip(1 - jump / _SURE_JUMP_M, 0.0, 1.0)
    variance = variance + (_JUMP_ERROR * jump) ** 2
    rise = points.rise_m[index].astype(np.float64)
    explained = (variance - LIFT_ERROR_M**2)[:, None] * rise**2
    seen = np.isfinite(points.feet_m[index]).all(axis=(1, 2))
    return StandingPlaces(
        points.position_m[index] - lift[:, None] * rise,
        points.variance_m2[index] + explained,
        np.where(seen, variance, 0.0),
    )


def _jump(points: FloorPoints, index: NDArray[np.int64], times_s: Floats) -> Floats:
    """Return the height [m] of the lower foot above the floor in jumps, else 0.

    In a jump both feet rise in the picture and are down again within half a second; over the floor nobody goes so far
    and comes back.
    """
    jump = np.zeros(len(index))
    known = np.flatnonzero(np.isfinite(points.feet_m[index]).all(axis=(1, 2)))
    if len(known) < 3:
        return jump
    rows = index[known]
    rise = points.rise_m[rows].astype(np.float64)
    feet = points.position_m[rows][:, None] + points.feet_m[rows].astype(np.float64)
    # As if the feet were where the player is on average and all of the movement was upwards.
    height = (feet * rise[:, None]).sum(axis=2) / np.maximum((rise**2).sum(axis=1), 1e-6)[:, None]
    # Frame by frame, also where the player was hidden: half a second is as long everywhere.
    frames = points.frame[rows]
    lower = np.interp(np.arange(frames[0], frames[-1] + 1), frames, height.min(axis=1))
    interval_s = float(np.median(np.diff(times_s)))
    lower = _moving(np.median, lower, round(_STEADY_S / max(interval_s, 1e-3)))
    wide = round(_LONGEST_JUMP_S / max(interval_s, 1e-3))
    above = (lower - _moving(np.max, _moving(np.min, lower, wide), wide))[frames - frames[0]]
    least = np.maximum(_LEAST_JUMP_M, _LEAST_MOVE_M / np.maximum(np.linalg.norm(rise, axis=1), 1e-6))
    jump[known] = np.where(above > least, above, 0.0)
    return jump


def _moving(reduced: Callable[..., Any], values: Floats, width: int) -> Floats:
    """Return the reduction of each value and its neighbours, ``width`` (or one more) together."""
    half = max(width // 2, 0)
    padded = np.pad(values, half, mode="edge")
    return np.asarray(reduced(np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1))


def _lift(points: FloorPoints, index: NDArray[np.int64], times_s: Floats) -> tuple[Floats, Floats]:
    """Return the mean height [m] of the two feet above standing ones, and its variance."""
    lift, variance_of_lift = np.zeros(len(index)), np.full(len(index), LIFT_ERROR_M**2)
    known = np.flatnonzero(np.isfinite(points.feet_m[index]).all(axis=(1, 2)))
    if len(known) < 2:
        return lift, variance_of_lift
    index = index[known]
    at_s = times_s[points.frame[index]]
    variance = points.variance_m2[index]
    rise = points.rise_m[index].astype(np.float64)
    feet = points.feet_m[index].astype(np.float64)
    swung = np.stack([_swung(points.position_m[index] + feet[:, foot], variance, at_s) for foot in (0, 1)], axis=1)
    length = np.maximum(np.linalg.norm(rise, axis=1), 1e-6)
    higher = ((feet[:, 0] - feet[:, 1]) * rise).sum(axis=1) / length**2
    spread = np.hypot(_STANCE_M / length, _HEIGHT_ERROR_M)
    for low in range(0, len(known), _AT_ONCE):
        part = slice(low, low + _AT_ONCE)
        lift[known[part]], variance_of_lift[known[part]] = _expected(higher[part], spread[part], swung[part])
    return lift, variance_of_lift


def _swung(place_m: Floats, variance_m2: Floats, at_s: Floats) -> Floats:
    """Return the probability that a foot is not standing, from its speed over the floor."""
    before, after = np.maximum(at_s - _SPEED_S / 2, at_s[0]), np.minimum(at_s + _SPEED_S / 2, at_s[-1])
    moved = [np.interp(after, at_s, place_m[:, axis]) - np.interp(before, at_s, place_m[:, axis]) for axis in (0, 1)]
    speed = np.stack(moved, axis=1) / np.maximum(after - before, 1e-3)[:, None]
    still = 2 * variance_m2 / _SPEED_S**2
    moving = still + _SWUNG_M_S**2
    odds = (np.log(still / moving) / 2 + speed**2 / 2 * (1 / still - 1 / moving)).sum(axis=1)
    odds += np.log(_SWUNG_SHARE / (1 - _SWUNG_SHARE))
    return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))))


def _expected(higher_m: Floats, spread_m: Floats, swung: Floats) -> tuple[Floats, Floats]:
    """Return the expected mean lift and its variance: ``higher_m`` is how far the first foot is above the second.

    At most one foot is lifted.
    """
    prior = np.exp(-_LIFTS_M / _MEAN_LIFT_M)
    prior /= prior.sum()

    def likely(of_first: Floats) -> Floats:
        return np.asarray(np.exp(-0.5 * ((higher_m[:, None] - of_first) / spread_m[:, None]) ** 2))

    none = (1 - swung[:, 0]) * (1 - swung[:, 1]) * likely(np.zeros(1))[:, 0]
    first = (swung[:, 0] * (1 - swung[:, 1]))[:, None] * prior * likely(_LIFTS_M)
    second = (swung[:, 1] * (1 - swung[:, 0]))[:, None] * prior * likely(-_LIFTS_M)
    lifted = first + second
    total = np.maximum(none + lifted.sum(axis=1), 1e-300)
    mean = lifted @ (_LIFTS_M / 2) / total
    variance = lifted @ (_LIFTS_M / 2) ** 2 / total - mean**2
    return np.asarray(mean), np.asarray(np.clip(variance + _LEAST_ERROR_M**2, 0.0, LIFT_ERROR_M**2))
