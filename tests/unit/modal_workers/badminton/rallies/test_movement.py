"""Play by movement is measured in metres and seconds; the replaced rule counted pixels a frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.movement import ActivePeriod, find_active_periods

Floats = NDArray[np.float64]


def tracks(x_m: Floats, times_s: Floats, pixels_per_metre: float = 100.0, court: bool = True) -> PlayerTracks:
    """Return one player who moves along x."""
    count = len(times_s)
    position = np.stack([x_m, np.full(count, 10.0)], axis=1)[None]
    left = x_m * pixels_per_metre
    height = 1.7 * pixels_per_metre
    boxes = np.stack([left - 20, np.full(count, 100.0), left + 20, np.full(count, 100 + height)], axis=1)[None]
    return PlayerTracks(
        position_m=(position if court else np.full_like(position, np.nan)).astype(np.float32),
        position_error_m=np.full((1, count), 0.05, np.float32),
        velocity_m_s=np.zeros((1, count, 2), np.float32),
        observed=np.ones((1, count), bool),
        boxes_px=boxes.astype(np.float32),
        keypoints_px=np.full((1, count, 17, 3), np.nan, np.float32),
        confidence=np.ones((1, count), np.float32),
        identity_confidence=np.ones((1, count), np.float32),
        side=np.ones((1, count), np.int8),
        outlier_count=np.zeros(1, np.int64),
    )


def play(times_s: Floats, periods: list[tuple[float, float]]) -> Floats:
    """Return places of a player who runs to and fro at up to 4 m/s in these periods."""
    x = np.full(len(times_s), 3.0)
    for start, end in periods:
        inside = (times_s >= start) & (times_s <= end)
        x[inside] += 1.0 - np.cos(4.0 * (times_s[inside] - start))
    return x


def replaced_rule(x_px: Floats, rate_hz: float) -> list[tuple[float, float]]:
    """Return rallies by the replaced rule: idle where 80 % of 1.5 s move less than 2 px; gaps < 3 s merged."""
    still = np.abs(np.diff(x_px, prepend=x_px[0])) < 2
    half = round(0.75 * rate_hz)
    idle = np.array([still[max(0, at - half) : at + half + 1].mean() >= 0.8 for at in range(len(still))])
    edges = np.flatnonzero(np.diff(np.concatenate([[True], idle, [True]]).astype(int)))
    ranges = [(low / rate_hz, high / rate_hz) for low, high in zip(edges[::2], edges[1::2], strict=True)]
    merged: list[tuple[float, float]] = []
    for low, high in ranges:
        if merged and low - merged[-1][1] < 3:
            merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return [(low, high) for low, high in merged if high - low >= 2]


@pytest.mark.parametrize("rate_hz", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("pixels_per_metre", [20.0, 100.0])
@pytest.mark.parametrize("court", [True, False])
def test_limits_do_not_depend_on_rate_or_size(rate_hz: float, pixels_per_metre: float, court: bool) -> None:
    times_s = np.arange(round(22 * rate_hz)) / rate_hz
    whole_swings = 5 * np.pi / 2
    wanted = [(2.0, 2.0 + whole_swings), (13.0, 13.0 + whole_swings)]
    x_m = play(times_s, wanted)
    players = tracks(x_m, times_s, pixels_per_metre, court)
    found = find_active_periods(players, times_s, 0, len(times_s) - 1)
    limits = [(float(times_s[each.first_frame]), float(times_s[each.last_frame])) for each in found]
    assert np.abs(np.array(limits) - np.array(wanted)).max() <= 0.3
    assert all((each.confidence > 0.5) == court for each in found)


def test_the_replaced_rule_fails_where_ours_holds() -> None:
    """Its limits are 0.4 s wide of the play on both sides, and at a high rate or far away there is no play at all."""
    wanted = (2.0, 2.0 + 5 * np.pi / 2)
    times_s = np.arange(14 * 30) / 30
    ((start, end),) = replaced_rule(play(times_s, [wanted]) * 100, 30)
    assert wanted[0] - start > 0.3
    assert end - wanted[1] > 0.3
    fast_s = np.arange(14 * 120) / 120
    assert replaced_rule(play(fast_s, [wanted]) * 30, 120) == []


def unseen(players: PlayerTracks, hidden: NDArray[np.bool_]) -> PlayerTracks:
    """Return a player whom nobody sees in some frames."""
    position, boxes = players.position_m.copy(), players.boxes_px.copy()
    position[:, hidden], boxes[:, hidden] = np.nan, np.nan
    return replace(players, position_m=position, boxes_px=boxes, observed=players.observed & ~hidden)


@pytest.mark.parametrize("court", [True, False])
def test_time_in_which_nobody_is_seen_is_no_rest(court: bool) -> None:
    times_s = np.arange(14 * 30) / 30
    wanted = (2.0, 2.0 + 5 * np.pi / 2)
    players = tracks(play(times_s, [wanted]), times_s, court=court)
    ((first, last, sure),) = limits(find_active_periods(players, times_s, 0, len(times_s) - 1), times_s)
    flickering = unseen(players, (times_s % 0.5 > 0.3) & (times_s > 3) & (times_s < 9))
    ((start_s, end_s, less_sure),) = limits(find_active_periods(flickering, times_s, 0, len(times_s) - 1), times_s)
    assert (start_s, end_s) == (pytest.approx(first, abs=0.1), pytest.approx(last, abs=0.1))
    assert less_sure < 0.8 * sure


def test_no_limit_is_put_into_time_in_which_nobody_is_seen() -> None:
    times_s = np.arange(14 * 30) / 30
    players = tracks(play(times_s, [(2.0, 12.0)]), times_s)
    hidden = unseen(players, (times_s < 5) | (times_s > 9))
    ((start_s, end_s, _),) = limits(find_active_periods(hidden, times_s, 0, len(times_s) - 1), times_s)
    assert 4.99 <= start_s < 5.3
    assert 8.7 < end_s <= 9.01


def limits(found: list[ActivePeriod], times_s: Floats) -> list[tuple[float, float, float]]:
    """Return first and last moment of each period, and its confidence."""
    return [(float(times_s[each.first_frame]), float(times_s[each.last_frame]), each.confidence) for each in found]


def test_a_walk_to_the_shuttle_is_no_play() -> None:
    times_s = np.arange(20 * 30) / 30
    x_m = np.interp(times_s, [5, 8, 11, 14], [1.0, 5.0, 5.0, 1.5])
    assert find_active_periods(tracks(x_m, times_s), times_s, 0, len(times_s) - 1) == []


def test_one_clip_that_is_play_from_end_to_end_and_one_of_no_play() -> None:
    times_s = np.arange(8 * 30) / 30
    ((first, last),) = [
        (each.first_frame, each.last_frame)
        for each in find_active_periods(tracks(play(times_s, [(0.0, 8.0)]), times_s), times_s, 0, 239)
    ]
    assert first <= 9
    assert last >= 230
    assert find_active_periods(tracks(np.full(240, 3.0), times_s), times_s, 0, 239) == []
    assert find_active_periods(tracks(np.full(240, 3.0), times_s), times_s, 5, 6) == []
