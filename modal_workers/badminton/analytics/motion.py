"""Distance and speed of one player from the smoothed track, with their errors.

Nothing is capped: what no person can do was rejected as an outlier when the track was made, and is counted there.
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
#: Over this time the errors of a smoothed track are taken as independent.
INDEPENDENT_S: Final = 0.25
#: A top speed must be held this long, so that it is the player's and not one frame's.
TOP_SPEED_HELD_S: Final = 0.12
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


@dataclass(frozen=True, eq=False)
class CourtTrack:
    """One player's track over N frames, in double precision. ``used`` [N]: frames of analysed segments."""

    times_s: Floats
    position_m: Floats
    error_m: Floats
    speed_m_s: Floats
    observed: Mask
    used: Mask
    #: Segment of each frame: no step is taken from one to another.
    segment: NDArray[np.int32]

    def between(self, first_frame: int, last_frame: int) -> CourtTrack:
        """Return the part from one frame to another, both included."""
        part = slice(first_frame, last_frame + 1)
        return CourtTrack(
            self.times_s[part],
            self.position_m[part],
            self.error_m[part],
            self.speed_m_s[part],
            self.observed[part],
            self.used[part],
            self.segment[part],
        )

    def steps(self) -> tuple[Floats, Floats]:
        """Return duration and length of the step that ends at each frame; 0 where either end is not known."""
        known = self.used & np.isfinite(self.position_m).all(axis=-1)
        duration_s = np.diff(self.times_s, prepend=self.times_s[:1])
        joined = known & np.roll(known, 1) & (self.segment == np.roll(self.segment, 1))
        joined &= (duration_s > 0) & (duration_s <= MAX_STEP_S)
        moved_m = np.hypot(*np.diff(self.position_m, axis=0, prepend=self.position_m[:1]).T)
        return np.where(joined, duration_s, 0.0), np.where(joined, moved_m, 0.0)


def measure_motion(track: CourtTrack, within: Mask | None = None) -> Motion:
    """Return distance and speed over the frames ``within`` (all if None) whose position is known."""
    chosen = track.used if within is None else track.used & within
    step_s, step_m = track.steps()
    step_s, step_m = np.where(chosen, step_s, 0.0), np.where(chosen, step_m, 0.0)
    known_s, distance_m = float(step_s.sum()), float(step_m.sum())
    frames = int(chosen.sum())
    observed_share = float((track.observed & chosen).sum() / frames) if frames else float("nan")
    if known_s == 0:
        nan = float("nan")
        return Motion(0.0, observed_share, nan, nan, nan, nan, nan, nan, nan)
    error_m = _distance_error_m(track, step_s, step_m)
    top_m_s, top_error_m_s, top_at_s = _top_speed(track, chosen)
    return Motion(
        known_s=known_s,
        observed_share=observed_share,
        distance_m=distance_m,
        distance_error_m=error_m,
        mean_speed_m_s=distance_m / known_s,
        mean_speed_error_m_s=error_m / known_s,
        top_speed_m_s=top_m_s,
        top_speed_error_m_s=top_error_m_s,
        top_speed_at_s=top_at_s,
    )


def _distance_error_m(track: CourtTrack, step_s: Floats, step_m: Floats) -> float:
    """Return the half-width of the distance's band: scatter of the steps, and what scatter adds to a path's length.

    A path through points that scatter by s is longer than the true one: a step of length d by about s² / d, and a step
    of a player at rest by about s. Both are taken over steps that are long enough to scatter independently.
    """
    moving = step_s > 0
    error_m = np.where(np.isfinite(track.error_m), track.error_m, 0.0)
    pieces = step_s[moving] / INDEPENDENT_S
    length_m = step_m[moving] / np.maximum(pieces, 1e-9)
    variance_m2 = 2 * error_m[moving] ** 2
    scatter_m = float(np.sqrt((pieces * variance_m2).sum()))
    added_m = np.minimum(variance_m2 / np.maximum(2 * length_m, 1e-6), np.sqrt(variance_m2))
    return BAND * scatter_m + float((pieces * added_m).sum())


def _top_speed(track: CourtTrack, chosen: Mask) -> tuple[float, float, float]:
    """Return the highest speed held for a moment where the player was seen; its error and its time."""
    held_m_s = _running_mean(track.times_s, track.speed_m_s, TOP_SPEED_HELD_S / 2)
    seen = _running_mean(track.times_s, track.observed.astype(float), SUPPORT_S) >= SUPPORT_SHARE
    candidates = np.where(chosen & seen & np.isfinite(held_m_s), held_m_s, -1.0)
    top = int(np.argmax(candidates)) if len(candidates) else 0
    if not len(candidates) or candidates[top] < 0:
        return float("nan"), float("nan"), float("nan")
    error_m = float(track.error_m[top]) if np.isfinite(track.error_m[top]) else 0.0
    # A velocity is a difference of positions whose errors are independent.
    error_m_s = BAND * np.sqrt(2) * error_m / (2 * INDEPENDENT_S)
    return float(candidates[top]), float(error_m_s), float(track.times_s[top])


def _running_mean(times_s: Floats, values: Floats, reach_s: float) -> Floats:
    """Return the mean of the frames within ``reach_s`` on both sides; NaN where one of them is NaN."""
    first = np.searchsorted(times_s, times_s - reach_s - 1e-6)
    last = np.searchsorted(times_s, times_s + reach_s + 1e-6, side="right")
    known = np.isfinite(values)
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    counts = np.concatenate(([0], np.cumsum(known)))
    number = counts[last] - counts[first]
    mean = (sums[last] - sums[first]) / np.maximum(number, 1)
    return np.asarray(np.where(number == last - first, mean, np.nan))
