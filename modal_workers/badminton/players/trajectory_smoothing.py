"""Position and velocity over time from noisy places: a Kalman filter forwards, the Rauch-Tung-Striebel smoother back.

The filter runs five times. A detection far from the first result counts less (Student's t instead of a normal
distribution). Positions come from one spectral density of the acceleration; for velocities it is then estimated for
each stretch of 1.5 s by maximum likelihood, so that who stands does not seem to walk, and a run is not smoothed away.

All players and stretches are computed at once: a lane is a stretch of one player's frames, cut into parts that overlap
by more than the smoother's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.motion_filter import START_SPEED_M_S

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
#: Place, speed and their covariance (pp, pv, vv), one of each for every lane and axis.
_State = tuple[Floats, Floats, Floats, Floats, Floats]

#: Spectral density of the acceleration, for the best velocities in simulated matches.
ACCELERATION_M2_S3: Final = 12.0
#: The error of a detection lasts for some frames: so many of them say as much as one with an error of its own. Makes
#: ``error_m`` the standard deviation it is said to be (simulated matches: 1.0 times).
_LASTING: Final = 8.0
#: Squared distance, in standard deviations, beyond which nobody can have moved to a detection.
_GATE: Final = 12.0
#: Degrees of freedom of a detection's error.
_FREEDOM: Final = 4.0
#: Time over which the density of the acceleration is estimated for velocities, its limits, and how often it is.
_ADAPTED_S: Final = 1.5
_LEAST_M2_S3, _MOST_M2_S3 = 1.0, 80.0
_ESTIMATES: Final = 3
#: Largest factor by which one estimate changes it.
_CHANGE: Final = 3.0
#: A gap that is bridged; over a longer one nothing is claimed.
MAX_GAP_S: Final = 0.5
_PART: Final = 512
_OVERLAP_S: Final = 2.0


@dataclass(frozen=True, eq=False)
class Trajectory:
    """One player's motion over N frames; NaN where unknown. ``rejected``: detections nobody can have moved to.

    ``velocity_m_s`` is the cautious velocity, whose sum over time is the distance, also of a player who stands.
    It is not the derivative of ``position_m``.
    """

    position_m: Floats
    velocity_m_s: Floats
    #: Standard deviation of the distance between estimate and truth.
    error_m: Floats
    rejected: Flags


def smooth_trajectory(
    position_m: Floats,
    variance_m2: Floats,
    times_s: Floats,
    segment: NDArray[np.int64],
    *,
    acceleration_m2_s3: tuple[float, float] | None = None,
) -> Trajectory:
    """Return the smoothed motion for places [N, 2] with variances [N, 2], NaN where the player was not detected.

    ``acceleration_m2_s3``: the density of the acceleration along the two axes. Where it is given, velocities are of it
    too, and no cautious ones.
    """
    count = len(times_s)
    seen = np.asarray(np.isfinite(position_m).all(axis=1))
    result = Trajectory(
        np.full((count, 2), np.nan), np.full((count, 2), np.nan), np.full(count, np.nan), np.zeros(count, bool)
    )
    lanes = _lanes(seen, times_s, segment)
    # Lanes of about the same length together, so that little is computed for nothing.
    lanes.sort(key=lambda lane: lane[1] - lane[0])
    for low in range(0, len(lanes), 256):
        part = lanes[low : low + 256]
        _smooth_lanes(part, position_m, variance_m2, times_s, result=result, given=acceleration_m2_s3)
    return result


def _lanes(seen: Flags, times_s: Floats, segment: NDArray[np.int64]) -> list[tuple[int, int, int, int]]:
    """Return (first, last, kept first, kept last) of the lanes: stretches without long gaps, in parts that overlap."""
    frames = np.flatnonzero(seen)
    if not len(frames):
        return []
    broken = (np.diff(times_s[frames]) > MAX_GAP_S) | (np.diff(segment[frames]) != 0)
    starts = np.concatenate([[0], np.flatnonzero(broken) + 1])
    ends = np.concatenate([np.flatnonzero(broken), [len(frames) - 1]])
    interval_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    overlap = int(np.ceil(_OVERLAP_S / max(interval_s, 1e-3)))
    lanes = []
    for first, last in zip(frames[starts].tolist(), frames[ends].tolist(), strict=True):
        for kept in range(first, last + 1, _PART):
            kept_last = min(kept + _PART - 1, last)
            # A lane begins where the player was detected: the filter starts from that place.
            begin = int(frames[np.searchsorted(frames, max(kept - overlap, first), side="right") - 1])
            lanes.append((begin, min(kept_last + overlap, last), kept, kept_last))
    return lanes


def _smooth_lanes(
    lanes: list[tuple[int, int, int, int]],
    position_m: Floats,
    variance_m2: Floats,
    times_s: Floats,
    *,
    result: Trajectory,
    given: tuple[float, float] | None,
) -> None:
    bounds = np.array(lanes)
    length = int((bounds[:, 1] - bounds[:, 0]).max()) + 1
    # Lanes that are shorter stay at their last frame, without detections.
    frames = np.minimum(bounds[:, :1] + np.arange(length), bounds[:, 1:2])
    beyond = np.arange(length) > (bounds[:, 1] - bounds[:, 0])[:, None]
    places = np.where(beyond[..., None], np.nan, position_m[frames])
    steps = np.diff(times_s[frames], axis=1, prepend=times_s[frames[:, :1]])
    variances = variance_m2[frames]
    acceleration = np.full((*steps.shape, 1), ACCELERATION_M2_S3)
    if given is not None:
        acceleration = np.broadcast_to(given, (*steps.shape, 2))
    first_pass = _smoothed(places, _LASTING * variances, steps, acceleration)
    places = np.where(first_pass.rejected[..., None], np.nan, places)
    lasting = _LASTING * variances / _weights(places, first_pass.states[..., 0], variances)[..., None]
    passed = of_places = _smoothed(places, lasting, steps, acceleration)
    window = max(round(_ADAPTED_S / max(float(np.median(steps[steps > 0], axis=None)), 1e-3)), 1) if length > 1 else 1
    for _ in range(_ESTIMATES if given is None else 0):
        acceleration = _likelier(acceleration, passed, window)
        passed = _smoothed(places, lasting, steps, acceleration)
    for lane, (first, _, kept_first, kept_last) in enumerate(lanes):
        part = slice(kept_first - first, kept_last - first + 1)
        kept = slice(kept_first, kept_last + 1)
        result.position_m[kept] = of_places.states[lane, part, :, 0]
        result.velocity_m_s[kept] = passed.states[lane, part, :, 1]
        result.error_m[kept] = np.sqrt(of_places.covariances[lane, part, :, 0].sum(axis=-1))
        result.rejected[kept] = first_pass.rejected[lane, part]


@dataclass(frozen=True, eq=False)
class _Pass:
    """Smoothed states [lanes, T, axis, (place, speed)], covariances [.., (pp, pv, vv)] and rejected places [lanes, T].

    ``push``, ``expected`` [lanes, T]: squares of what the motion was pushed by at each step, and what they are on
    average if the assumed density of the acceleration is right.
    """

    states: Floats
    covariances: Floats
    rejected: Flags
    push: Floats
    expected: Floats


def _smoothed(places: Floats, variances: Floats, steps: Floats, acceleration: Floats) -> _Pass:
    states, covariances, rejected = _filter(places, variances, steps, acceleration)
    push, expected = _smooth_back(states, covariances, steps, acceleration)
    return _Pass(states, covariances, rejected, push, expected)


def _weights(places: Floats, smooth: Floats, variances: Floats) -> Floats:
    """Return the weights [lanes, T] of detections that errors with heavy tails give them, at most 1."""
    off = np.nan_to_num(((places - smooth) ** 2 / variances).sum(axis=-1))
    return np.asarray(np.minimum((_FREEDOM + 2) / (_FREEDOM + off), 1.0))


def _likelier(acceleration: Floats, passed: _Pass, window: int) -> Floats:
    """Return densities of the acceleration [lanes, T, 1] with a higher likelihood in each window of frames."""
    change = (_moving_sum(passed.push, window) + 1e-12) / (_moving_sum(passed.expected, window) + 1e-12)
    changed = acceleration * np.clip(change, 1 / _CHANGE, _CHANGE)[..., None]
    return np.clip(changed, _LEAST_M2_S3, _MOST_M2_S3)


def _moving_sum(values: Floats, window: int) -> Floats:
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    middle = np.arange(values.shape[1])
    low, high = np.maximum(middle - window // 2, 0), np.minimum(middle + window // 2 + 1, values.shape[1])
    return np.asarray(np.maximum(sums[:, high] - sums[:, low], 0.0))


def _filter(places: Floats, variances: Floats, steps: Floats, acceleration: Floats) -> tuple[Floats, Floats, Flags]:
    """Return filtered states [lanes, T, axis, (place, speed)], covariances [.., (pp, pv, vv)] and rejected places.

    ``acceleration`` [lanes, T, 1 or 2]: of both axes together, or of each.
    """
    lanes, length, _ = places.shape
    rejected = np.zeros((lanes, length), bool)
    # By time first: the loop takes a row of each. What does not depend on the row before is computed for all at once,
    # because most of the time of a row is that of NumPy's calls.
    step, step_places, step_variances = _by_time(steps[..., None]), _by_time(places), _by_time(variances)
    pushed = _pushed(step, _by_time(acceleration))
    rows: list[_State] = []
    place, speed = step_places[0], np.zeros((lanes, 2))
    # Half a metre of doubt lets later detections correct a wrong first one.
    pp, pv, vv = step_variances[0] + 0.25, np.zeros((lanes, 2)), np.full((lanes, 2), START_SPEED_M_S**2)
    for index in range(length):
        state = _predicted((place, speed, pp, pv, vv), step[index], [part[index] for part in pushed])
        place, speed, pp, pv, vv = state
        off = step_places[index] - place
        total = pp + step_variances[index]
        distance = (off**2 / total).sum(axis=1)
        used = (distance <= _GATE)[:, None]
        rejected[:, index] = distance > _GATE
        gain_place = np.where(used, pp / total, 0.0)
        gain_speed = np.where(used, pv / total, 0.0)
        off = np.where(used, off, 0.0)
        place, speed = place + gain_place * off, speed + gain_speed * off
        vv = vv - gain_speed * pv
        pv = pv - gain_place * pv
        pp = pp - gain_place * pp
        rows.append((place, speed, pp, pv, vv))
    by_lane = np.asarray(rows).transpose(2, 0, 3, 1)
    return by_lane[..., :2].copy(), by_lane[..., 2:].copy(), rejected


def _smooth_back(states: Floats, covariances: Floats, steps: Floats, acceleration: Floats) -> tuple[Floats, Floats]:
    """Change states and covariances to those given all detections; return ``push`` and ``expected`` of the pass."""
    push, expected = np.zeros(steps.shape), np.zeros(steps.shape)
    # By time first, as in the filter: each row is a frame and the step to the next one.
    place, speed = (_by_time(states[:, :-1, :, part]) for part in range(2))
    pp, pv, vv = (_by_time(covariances[:, :-1, :, part]) for part in range(3))
    step = _by_time(steps[:, 1:, None])
    pushed = _pushed(step, _by_time(acceleration[:, 1:]))
    # Predicted for the next frame.
    next_place, _, npp, npv, nvv = _predicted((place, speed, pp, pv, vv), step, pushed)
    determinant = np.maximum(npp * nvv - npv**2, 1e-18)
    # Gain = P Fᵀ (predicted P)⁻¹, a 2x2 matrix per axis.
    first, third = pp + step * pv, pv + step * vv
    a = (first * nvv - pv * npv) / determinant
    b = (pv * npp - first * npv) / determinant
    c = (third * nvv - vv * npv) / determinant
    d = (vv * npp - third * npv) / determinant
    off, off_speed, dpp, dpv, dvv = (np.empty_like(place) for _ in range(5))
    smooth_place, smooth_speed = states[:, -1, :, 0], states[:, -1, :, 1]
    smooth_pp, smooth_pv, smooth_vv = (covariances[:, -1, :, part] for part in range(3))
    for index in range(len(place) - 1, -1, -1):
        ra, rb, rc, rd = a[index], b[index], c[index], d[index]
        off[index] = row_off = smooth_place - next_place[index]
        off_speed[index] = row_off_speed = smooth_speed - speed[index]
        dpp[index] = row_dpp = smooth_pp - npp[index]
        dpv[index] = row_dpv = smooth_pv - npv[index]
        dvv[index] = row_dvv = smooth_vv - nvv[index]
        smooth_place = place[index] + ra * row_off + rb * row_off_speed
        smooth_speed = speed[index] + rc * row_off + rd * row_off_speed
        taken_place, taken_speed = ra * row_dpp + rb * row_dpv, ra * row_dpv + rb * row_dvv
        smooth_pp = np.maximum(pp[index] + ra * taken_place + rb * taken_speed, 1e-9)
        smooth_pv = pv[index] + rc * taken_place + rd * taken_speed
        taken_place, taken_speed = rc * row_dpp + rd * row_dpv, rc * row_dpv + rd * row_dvv
        smooth_vv = np.maximum(vv[index] + rc * taken_place + rd * taken_speed, 1e-9)
        place[index], speed[index] = smooth_place, smooth_speed
        pp[index], pv[index], vv[index] = smooth_pp, smooth_pv, smooth_vv
    # (predicted P)⁻¹ times the push, and times what the detections took from its covariance, weighed as the covariance
    # of an acceleration's integrals over the step is.
    one, two = (nvv * off - npv * off_speed) / determinant, (npp * off_speed - npv * off) / determinant
    e, f = (nvv * dpp - npv * dpv) / determinant, (nvv * dpv - npv * dvv) / determinant
    g, h = (npp * dpv - npv * dpp) / determinant, (npp * dvv - npv * dpv) / determinant
    shapes = step**3 / 3, step**2, step
    push[:, 1:] = (shapes[0] * one**2 + shapes[1] * one * two + shapes[2] * two**2).sum(axis=-1).T
    taken = shapes[0] * (e * nvv - f * npv) + shapes[1] * (f * npp - e * npv) + shapes[2] * (h * npp - g * npv)
    expected[:, 1:] = -(taken / determinant).sum(axis=-1).T
    states[:, :-1] = np.stack([place, speed], axis=-1).swapaxes(0, 1)
    covariances[:, :-1] = np.stack([pp, pv, vv], axis=-1).swapaxes(0, 1)
    return push, expected


def _by_time(values: Floats) -> Floats:
    """Return values [lanes, T, ..] as [T, lanes, ..], each row in one piece."""
    return np.ascontiguousarray(values.swapaxes(0, 1))


def _pushed(step: Floats, density: Floats) -> list[Floats]:
    """Return what an acceleration of this density adds to (pp, pv, vv) over the step."""
    return [density * step**3 / 3, density * step**2 / 2, density * step]


def _predicted(state: _State, step: Floats, pushed: Sequence[Floats]) -> _State:
    """Return the state after the step."""
    place, speed, pp, pv, vv = state
    return (
        place + step * speed,
        speed,
        pp + (2 * pv + step * vv) * step + pushed[0],
        pv + step * vv + pushed[1],
        vv + pushed[2],
    )
