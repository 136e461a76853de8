"""Play found by the players' movement alone, in metres and seconds, whatever the rate of the frames.

Where there is no court, a player's own height is the measure: a box moves by so many heights a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.reach import BOX_HEIGHT_M

Floats = NDArray[np.float64]

#: The mean speed over this time counts; a step to a ball lasts about as long.
_MEAN_S: Final = 0.6
#: Speed of the fastest player that only play reaches, not a walk to a shuttle; and below which nobody runs.
_PLAY_M_S: Final = 1.9
_REST_M_S: Final = 0.8
#: From such a speed to rest, a player in play takes no longer; a walk after the rally does.
_LONGEST_STOP_S: Final = 0.7
#: Players run slower than that within a rally for less than this, and no rally is shorter than that.
_LONGEST_REST_S: Final = 3.0
_SHORTEST_PLAY_S: Final = 1.0
#: Share of the periods found that are one whole rally, on simulated matches (bench/badminton_shuttle.py).
_IN_METRES: Final = 0.6
_IN_HEIGHTS: Final = 0.4
#: Length of a jump that no player makes within one step of the positions: a change of the track.
_FASTEST_M_S: Final = 9.0


@dataclass(frozen=True)
class ActivePeriod:
    """A time in which players move as in play."""

    first_frame: int
    last_frame: int
    confidence: float


def find_active_periods(players: PlayerTracks, times_s: Floats, first: int, last: int) -> list[ActivePeriod]:
    """Return the periods of play in the frames of one camera."""
    frames = np.arange(first, last + 1)
    metres = np.isfinite(players.position_m[:, frames]).all(2).any()
    speed = _speeds(players, frames, times_s[frames])
    if not np.isfinite(speed).any():
        return []
    fastest = np.nanmax(np.where(np.isfinite(speed), speed, -1.0), axis=0)
    known = np.isfinite(speed).mean(0)
    mean = _centred_mean(fastest, times_s[frames], _MEAN_S)
    periods: list[ActivePeriod] = []
    for low, high in _active(mean, times_s[frames]):
        seen = float(known[low : high + 1].mean())
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


def _centred_mean(values: Floats, times_s: Floats, width_s: float) -> Floats:
    """Return the mean of the values within ``width_s`` around each time."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.searchsorted(times_s, times_s - width_s / 2, side="left")
    high = np.searchsorted(times_s, times_s + width_s / 2, side="right")
    return np.asarray((sums[high] - sums[low]) / np.maximum(high - low, 1))


def _active(mean: Floats, times_s: Floats) -> list[tuple[int, int]]:
    """Return the ranges of play: around the times of fast movement, joined over short rests."""
    fast = np.concatenate([[False], mean >= _PLAY_M_S, [False]])
    edges = np.flatnonzero(fast[1:] != fast[:-1])
    joined: list[tuple[int, int]] = []
    for low, high in zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True):
        if joined and times_s[low] - times_s[joined[-1][1]] < _LONGEST_REST_S:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    widened = [(_until_rest(mean, times_s, low, -1), _until_rest(mean, times_s, high, 1)) for low, high in joined]
    return [(low, high) for low, high in widened if times_s[high] - times_s[low] >= _SHORTEST_PLAY_S]


def _until_rest(mean: Floats, times_s: Floats, index: int, step: int) -> int:
    """Return where the movement around a time of play begins or ends."""
    start_s = times_s[index]
    while 0 <= index + step < len(mean) and mean[index + step] >= _REST_M_S:
        if abs(times_s[index + step] - start_s) > _LONGEST_STOP_S:
            break
        index += step
    return index
