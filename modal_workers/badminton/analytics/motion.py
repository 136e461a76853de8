"""Distance and speed of one player from the smoothed track, with their errors.

Nothing is capped: what no person can do was rejected as an outlier when the track was made, and is counted there. But a
smoothed track is not the path: its scatter makes it longer, most where a player stands (a fifth, in simulated matches),
and its smoothness takes the top off a short burst. So a distance is the sum of moves that are larger than the scatter,
and a speed is raised by half of what smoothing takes off a short burst. Both were set on twelve simulated matches of
40 s in four cameras, with detections as a pose network and as a motion detector report them.
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
#: A move counts once it exceeds this many standard deviations of the place along one axis. The medians of the error of
#: distances were -4 % (pose network) and +1 % (motion), the mean of its size 6 %; of long runs they are 5 % too long.
MOVE_DEVIATIONS: Final = 1.7
#: Standard deviation of a distance, as a share.
DISTANCE_UNCERTAINTY: Final = 0.06
#: A speed is the distance between the places half of this before and after, over this time.
SPEED_S: Final = 0.1
#: Speeds are raised by this share for each metre of the place's error. Unraised, the top speeds of lunges that take
#: half a second are 16 % too low at an error of 0.15 m, and those of runs that take a second 5 % too high; raised by
#: this, the medians of their errors are -8 % and +12 %.
RAISED_PER_ERROR_M: Final = 0.6
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
    """One player's track over N frames, in double precision; ``known`` [N]: frames whose place is used.

    ``error_m`` is the standard deviation of the distance to the true place; ``stretch`` [N] numbers the stretches
    without a gap, over which steps are taken: -1 where the place is not known.
    """

    times_s: Floats
    position_m: Floats
    error_m: Floats
    observed: Mask
    used: Mask
    stretch: NDArray[np.int64]
    speed_m_s: Floats

    @classmethod
    def of(
        cls,
        times_s: Floats,
        places: tuple[NDArray[np.floating], NDArray[np.floating]],
        observed: Mask,
        used: Mask,
        segment: NDArray[np.int32],
    ) -> CourtTrack:
        """Return the track of ``places`` (positions [N, 2], errors [N]) in the frames that are ``used``."""
        position_m, error_m = (np.asarray(values, np.float64) for values in places)
        stretch = _stretches(times_s, used & np.isfinite(position_m).all(axis=-1), segment)
        raised = 1 + RAISED_PER_ERROR_M * np.nan_to_num(error_m)
        speed_m_s = raised * _speeds(times_s, position_m, stretch)
        return cls(times_s, position_m, error_m, observed, used, stretch, speed_m_s)

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
        )

    def durations_s(self) -> Floats:
        """Return the time from the frame before to each frame, 0 where a stretch begins or nothing is known."""
        joined = (self.stretch >= 0) & (self.stretch == np.roll(self.stretch, 1))
        return np.where(joined, np.diff(self.times_s, prepend=self.times_s[:1]), 0.0)

    def moves(self) -> tuple[Floats, Floats]:
        """Return at each frame the length of the move that ends there, and its variance; 0 between moves.

        A move is counted when the player has left the place of the last one by more than the places scatter.
        """
        known = np.flatnonzero(self.stretch >= 0)
        length_m, variance_m2 = np.zeros(len(self.times_s)), np.zeros(len(self.times_s))
        along_axis_m = np.where(np.isfinite(self.error_m), self.error_m, 0.0)[known] / np.sqrt(2)
        reach2 = (MOVE_DEVIATIONS * along_axis_m) ** 2
        last, from_x, from_y = -1, 0.0, 0.0
        # Plain numbers: a loop over 90 minutes takes a second.
        places, stretches = self.position_m[known].tolist(), self.stretch[known].tolist()
        for index, (x, y), stretch, limit in zip(known.tolist(), places, stretches, reach2.tolist(), strict=True):
            if stretch != last:
                last, from_x, from_y = stretch, x, y
                continue
            square = (x - from_x) ** 2 + (y - from_y) ** 2
            if square > limit:
                length_m[index], variance_m2[index] = square**0.5, 2 * limit / MOVE_DEVIATIONS**2
                from_x, from_y = x, y
        return length_m, variance_m2


def measure_motion(track: CourtTrack, within: Mask | None = None) -> Motion:
    """Return distance and speed over the frames ``within`` (all if None) whose position is known."""
    chosen = track.used if within is None else track.used & within
    known_s = float(track.durations_s()[chosen].sum())
    frames = int(chosen.sum())
    observed_share = float((track.observed & chosen).sum() / frames) if frames else _UNKNOWN
    if known_s == 0:
        return Motion(0.0, observed_share, *[_UNKNOWN] * 7)
    length_m, variance_m2 = track.moves()
    distance_m, scatter_m = float(length_m[chosen].sum()), float(np.sqrt(variance_m2[chosen].sum()))
    error_m = BAND * float(np.hypot(scatter_m, DISTANCE_UNCERTAINTY * distance_m))
    # Who seems to stand still may have made a move that is too short to be counted.
    errors_m = track.error_m[chosen & np.isfinite(track.error_m)]
    if len(errors_m):
        error_m = max(error_m, MOVE_DEVIATIONS * float(np.median(errors_m)) / np.sqrt(2))
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
