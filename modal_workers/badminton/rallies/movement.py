"""Play found by the players' movement alone, in metres and seconds, whatever the rate of the frames.

Where there is no court, a player's own height is the measure: a box moves by so many heights a second. Time in which
nobody was seen says nothing: it is neither rest nor play, and no limit is put into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.reach import BOX_HEIGHT_M

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MovementLimits:
    """Limits of the movement that is play, fitted on simulated matches by bench/badminton_movement.py."""

    #: The mean speed over this time counts; a step to a ball lasts about as long.
    mean_s: float = 0.6
    #: It is known where somebody was seen in this share of that time: no limit is in a longer time without a sight.
    least_seen: float = 0.5
    #: Speed of the fastest player that only play reaches, not a walk to a shuttle; and below which nobody runs.
    play_m_s: float = 1.9
    rest_m_s: float = 0.8
    #: From such a speed to rest, a player in play takes no longer; a walk after the rally does.
    longest_stop_s: float = 0.7
    #: Players run slower than that within a rally for less than this, and no rally is shorter than that.
    longest_rest_s: float = 3.0
    shortest_play_s: float = 1.0


LIMITS: Final = MovementLimits()
#: Share of the periods found that have most of their time in common with one rally, on simulated matches, where all
#: players are seen all the time (bench/badminton_movement.py).
_IN_METRES: Final = 0.55
_IN_HEIGHTS: Final = 0.5
#: Length of a jump that no player makes within one step of the positions: a change of the track.
_FASTEST_M_S: Final = 9.0


@dataclass(frozen=True)
class ActivePeriod:
    """A time in which players move as in play."""

    first_frame: int
    last_frame: int
    confidence: float


def find_active_periods(
    players: PlayerTracks, times_s: Floats, first: int, last: int, limits: MovementLimits = LIMITS
) -> list[ActivePeriod]:
    """Return the periods of play in the frames of one camera."""
    frames = np.arange(first, last + 1)
    metres = np.isfinite(players.position_m[:, frames]).all(2).any()
    speed = _speeds(players, frames, times_s[frames])
    known = np.isfinite(speed)
    if not known.any():
        return []
    fastest = np.where(known.any(axis=0), np.where(known, speed, -np.inf).max(axis=0), np.nan)
    mean = _centred_mean(fastest, times_s[frames], limits)
    periods: list[ActivePeriod] = []
    for low, high in _active(mean, times_s[frames], limits):
        seen = float(known[:, low : high + 1].mean())
        confidence = (_IN_METRES if metres else _IN_HEIGHTS) * seen
        periods.append(ActivePeriod(int(frames[low]), int(frames[high]), confidence))
    return periods


def _speeds(players: PlayerTracks, frames: NDArray[np.int64], times_s: Floats) -> Floats:
    """Return each player's speed in m/s [P, n]."""
    if len(frames) < 3:
        return np.full((players.player_count, len(frames)), np.nan)
    boxes = players.boxes_px[:, frames].astype(float)
    heights = boxes[..., 3] - boxes[..., 1]
    # A player who is never seen has none.
    heights[~np.isfinite(heights).any(axis=1)] = 0.0
    height = np.nanmedian(heights, axis=1) if np.isfinite(boxes).any() else np.zeros(0)
    foot = np.stack([(boxes[..., 0] + boxes[..., 2]) / 2, boxes[..., 3]], axis=2)
    position = players.position_m[:, frames].astype(float)
    measured = np.isfinite(position).all(2).any(1)
    if len(height):
        own = foot / np.maximum(height, 1.0)[:, None, None] * BOX_HEIGHT_M
        position = np.where(measured[:, None, None], position, own)
    velocity = np.gradient(position, times_s, axis=1)
    speed = np.hypot(velocity[..., 0], velocity[..., 1])
    return np.asarray(np.where(speed <= _FASTEST_M_S, speed, np.nan))


def _centred_mean(values: Floats, times_s: Floats, limits: MovementLimits) -> Floats:
    """Return the mean of the known values around each time; NaN where too few are known."""
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    low = np.searchsorted(times_s, times_s - limits.mean_s / 2, side="left")
    high = np.searchsorted(times_s, times_s + limits.mean_s / 2, side="right")
    seen = counts[high] - counts[low]
    mean = (sums[high] - sums[low]) / np.maximum(seen, 1)
    return np.asarray(np.where((seen > 0) & (seen >= limits.least_seen * (high - low)), mean, np.nan))


def _active(mean: Floats, times_s: Floats, limits: MovementLimits) -> list[tuple[int, int]]:
    """Return the ranges of play: around the times of fast movement, joined over short rests."""
    fast = np.concatenate([[False], mean >= limits.play_m_s, [False]])
    edges = np.flatnonzero(fast[1:] != fast[:-1])
    joined: list[tuple[int, int]] = []
    for low, high in zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
        if joined and times_s[low] - times_s[joined[-1][1]] < limits.longest_rest_s:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    widened = [
        (_until_rest(mean, times_s, low, -1, limits), _until_rest(mean, times_s, high, 1, limits))
        for low, high in joined
    ]
    return [(low, high) for low, high in widened if times_s[high] - times_s[low] >= limits.shortest_play_s]


def _until_rest(mean: Floats, times_s: Floats, index: int, step: int, limits: MovementLimits) -> int:
    """Return where the movement around a time of play begins or ends."""
    start_s = times_s[index]
    while 0 <= index + step < len(mean) and mean[index + step] >= limits.rest_m_s:
        if abs(times_s[index + step] - start_s) > limits.longest_stop_s:
            break
        index += step
    return index
