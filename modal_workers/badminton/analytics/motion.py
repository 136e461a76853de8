"""Distance and speed of one player from the smoothed track, with their errors.

Nothing is capped: what no person can do was rejected as an outlier when the track was made, and is counted there. But a
smoothed track is not the path: its scatter makes it longer, most where a player stands (a fifth, in simulated matches),
and its smoothness takes the top off a short burst. So a distance is the sum over time of the smoother's cautious
velocities, which are those of somebody who stands where nothing says otherwise, and a top speed is that of the places,
raised by half of what smoothing takes off a short burst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

KMH_PER_M_S: Final = 3.6
#: A step between frames that are further apart is no step of a player: frames are missing there.
MAX_STEP_S: Final = 0.5
#: Standard deviation of a distance, as a share; and the time over which the places' errors last, which adds to it.
DISTANCE_UNCERTAINTY: Final = 0.055
LASTING_S: Final = 1.0
#: A speed is the distance between the places half of this before and after, over this time.
SPEED_S: Final = 0.1
#: Speeds are raised by this share for each metre of the place's error. Unraised, the top speeds of lunges that take
#: half a second are 16 % too low at an error of 0.15 m, and those of runs that take a second 5 % too high; raised by
#: this, the medians of their errors are -8 % and +12 %.
RAISED_PER_ERROR_M: Final = 0.6
#: The same of the body's centre, whose path is not flattened as that of the feet is: the hips are seen well.
BODY_RAISED_PER_ERROR_M: Final = 0.0
#: Standard deviation of a top speed, as a share; and per metre of error, of what it was raised by.
SPEED_UNCERTAINTY: Final = 0.1
RAISING_UNCERTAINTY: Final = 0.3
#: Around a top speed, in this time on both sides, at least half of the frames must have seen the player.
SUPPORT_S: Final = 0.3
SUPPORT_SHARE: Final = 0.5
#: Half-width of a 95 % band in standard deviations.
BAND: Final = 1.96


@dataclass(frozen=True)
class Motion:
    """Distance and speed of a player over some frames; NaN where no frame knows them.

    Errors are half-widths of 95 % bands.
    """

    #: Time over which the position is known, and the share of frames in which the player was seen.
    known_s: float
    observed_share: float
    distance_m: float
    distance_error_m: float
    mean_speed_m_s: float
    mean_speed_error_m_s: float
    top_speed_m_s: float
    top_speed_error_m_s: float
    top_speed_at_s: float


_UNKNOWN: Final = float("nan")


@dataclass(frozen=True, eq=False)
class CourtTrack:
    """One player's track over N frames, in double precision; ``used`` [N]: frames whose place is used.

    ``error_m`` is the standard deviation of the distance to the true place; ``stretch`` [N] numbers the stretches
    without a gap, over which steps are taken: -1 where the place is not known. ``speed_m_s`` [N] is that of the places,
    ``cautious_m_s`` [N] the one whose sum is the distance.
    """

    times_s: Floats
    position_m: Floats
    error_m: Floats
    observed: Mask
    used: Mask
    stretch: NDArray[np.int64]
    speed_m_s: Floats
    cautious_m_s: Floats

    @classmethod
    def of(
        cls,
        times_s: Floats,
        motion: tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]],
        observed: Mask,
        used: Mask,
        segment: NDArray[np.int32],
        *,
        raised_per_error_m: float = RAISED_PER_ERROR_M,
    ) -> CourtTrack:
        """Return the track in the frames that are ``used``.

        ``motion``: positions [N, 2], their errors [N] and velocities [N, 2] as the smoother returns them, all of the
        same point of the body. ``raised_per_error_m``: share by which its speeds are raised for each metre of error.
        """
        position_m, error_m, velocity_m_s = (np.asarray(values, np.float64) for values in motion)
        stretch = _stretches(times_s, used & np.isfinite(position_m).all(axis=-1), segment)
        raised = 1 + raised_per_error_m * np.nan_to_num(error_m)
        speed_m_s = raised * _speeds(times_s, position_m, stretch)
        cautious_m_s = np.nan_to_num(np.hypot(velocity_m_s[:, 0], velocity_m_s[:, 1]))
        return cls(times_s, position_m, error_m, observed, used, stretch, speed_m_s, cautious_m_s)

    def between(self, first_frame: int, last_frame: int) -> CourtTrack:
        """Return the part from one frame to another, both included."""
        part = slice(first_frame, last_frame + 1)
        return CourtTrack(
            self.times_s[part],
            self.position_m[part],
            self.error_m[part],
            self.observed[part],
            self.used[part],
            self.stretch[part],
            self.speed_m_s[part],
            self.cautious_m_s[part],
        )

    def durations_s(self) -> Floats:
        """Return the time from the frame before to each frame, 0 where a stretch begins or nothing is known."""
        joined = (self.stretch >= 0) & (self.stretch == np.roll(self.stretch, 1))
        return np.where(joined, np.diff(self.times_s, prepend=self.times_s[:1]), 0.0)

    def steps_m(self) -> Floats:
        """Return at each frame the way since the frame before, 0 where a stretch begins or nothing is known."""
        before = np.concatenate((self.cautious_m_s[:1], self.cautious_m_s[:-1]))
        return np.asarray((before + self.cautious_m_s) / 2 * self.durations_s())


def measure_motion(track: CourtTrack, within: Mask | None = None) -> Motion:
    """Return distance and speed over the frames ``within`` (all if None) whose position is known."""
    chosen = track.used if within is None else track.used & within
    # A step into the chosen frames from one that is not chosen is none of theirs.
    inside = chosen & np.roll(chosen, 1)
    durations_s = np.where(inside, track.durations_s(), 0.0)[chosen]
    known_s = float(durations_s.sum())
    frames = int(chosen.sum())
    observed_share = float((track.observed & chosen).sum() / frames) if frames else _UNKNOWN
    if known_s == 0:
        return Motion(0.0, observed_share, *[_UNKNOWN] * 7)
    distance_m = float(track.steps_m()[inside].sum())
    # Along one axis; the ends of each stretch of time over which the errors last are as uncertain as the places.
    variances_m2 = np.nan_to_num(track.error_m[chosen]) ** 2 / 2
    scatter_m = float(np.sqrt(2 * (variances_m2 * durations_s).sum() / LASTING_S))
    error_m = BAND * float(np.hypot(scatter_m, DISTANCE_UNCERTAINTY * distance_m))
    return Motion(
        known_s,
        observed_share,
        distance_m,
        error_m,
        distance_m / known_s,
        error_m / known_s,
        *_top_speed(track, chosen),
    )


def _top_speed(track: CourtTrack, chosen: Mask) -> tuple[float, float, float]:
    """Return the highest speed where the player was seen; its error and its time."""
    seen = _running_mean(track.times_s, track.observed.astype(float), SUPPORT_S) >= SUPPORT_SHARE
    candidates = np.where(chosen & seen & np.isfinite(track.speed_m_s), track.speed_m_s, -1.0)
    top = int(np.argmax(candidates)) if len(candidates) else 0
    if not len(candidates) or candidates[top] < 0:
        return _UNKNOWN, _UNKNOWN, _UNKNOWN
    speed_m_s, error_m = float(candidates[top]), float(np.nan_to_num(track.error_m[top]))
    share = np.hypot(SPEED_UNCERTAINTY, RAISING_UNCERTAINTY * error_m)
    return speed_m_s, float(BAND * share * speed_m_s), float(track.times_s[top])


def _stretches(times_s: Floats, known: Mask, segment: NDArray[np.int32]) -> NDArray[np.int64]:
    begins = known & ~np.roll(known, 1)
    begins |= (segment != np.roll(segment, 1)) | (np.diff(times_s, prepend=-np.inf) > MAX_STEP_S)
    return np.where(known, np.cumsum(begins), -1)


def _speeds(times_s: Floats, position_m: Floats, stretch: NDArray[np.int64]) -> Floats:
    """Return speeds [N] over ``SPEED_S``, half of it at the ends of a stretch; NaN where less is known."""
    speed_m_s = np.full(len(times_s), np.nan)
    known = np.flatnonzero(stretch >= 0)
    if not len(known):
        return speed_m_s
    at_s, numbers = times_s[known], stretch[known]
    first = np.flatnonzero(np.diff(numbers, prepend=-1) != 0)
    last = np.append(first[1:] - 1, len(known) - 1)
    which = np.repeat(np.arange(len(first)), last - first + 1)
    before_s = np.maximum(at_s - SPEED_S / 2, at_s[first][which])
    after_s = np.minimum(at_s + SPEED_S / 2, at_s[last][which])
    moved_m = np.zeros(len(known))
    for axis in (0, 1):
        places = position_m[known, axis]
        moved_m = np.hypot(moved_m, np.interp(after_s, at_s, places) - np.interp(before_s, at_s, places))
    span_s = after_s - before_s
    enough = span_s > 0.49 * SPEED_S
    speed_m_s[known[enough]] = moved_m[enough] / span_s[enough]
    return speed_m_s


def _running_mean(times_s: Floats, values: Floats, reach_s: float) -> Floats:
    """Return the mean of the frames within ``reach_s`` on both sides."""
    first = np.searchsorted(times_s, times_s - reach_s - 1e-6)
    last = np.searchsorted(times_s, times_s + reach_s + 1e-6, side="right")
    sums = np.concatenate(([0.0], np.cumsum(values)))
    return np.asarray((sums[last] - sums[first]) / np.maximum(last - first, 1))
