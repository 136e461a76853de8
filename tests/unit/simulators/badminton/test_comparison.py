"""Figures of a match beside its truth: a result that is the truth has no error, one with a player aside has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modal_workers.badminton.analytics.own_half import own_half
from modal_workers.badminton.analytics.zones import measure_zones
from simulators.badminton.comparison import compare_with_truth
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth

TRUTH = match_truth(MatchOptions(seed=3, duration_s=8.0))


def results(truth: MatchTruth, aside_m: float = 0.0, error_m: float = 0.0) -> dict[str, Any]:
    """Return what a job would report that sees every player this far to the camera's right."""
    count = len(truth.time_s)
    places = truth.positions_m + np.array([aside_m, 0.0])
    sides = np.where(places[..., 1] > 6.7, 1, -1).astype(np.int8)
    halves = [own_half(place, side) for place, side in zip(places, sides, strict=True)]
    zones = [measure_zones(half, np.full(count, 1 / 30), np.zeros(count)) for half in halves]
    motion = {"distance_m": 1.0, "top_speed_m_s": 1.0}
    return {
        "segments": [],
        "rallies": [],
        "hits": [],
        "players": [
            {"player_id": player, "motion": motion, "zones": {"share": zone.share().tolist()}}
            for player, zone in enumerate(zones)
        ],
        "tracks": {
            "source_frame": list(range(count)),
            "players": [
                {"x_m": place[:, 0].tolist(), "y_m": place[:, 1].tolist(), "error_m": [error_m] * count}
                for place in places
            ],
            "shuttle": None,
        },
    }


def test_the_truth_agrees_with_itself_in_zones() -> None:
    players = compare_with_truth(results(TRUTH), TRUTH).players
    assert [player.zone_agreement for player in players] == [1.0, 1.0]
    assert [player.zone_time_agreement for player in players] == pytest.approx([1.0, 1.0])


def test_players_seen_aside_are_in_wrong_zones_in_frames_and_in_reported_times() -> None:
    for player in compare_with_truth(results(TRUTH, aside_m=2.5), TRUTH).players:
        assert player.zone_agreement < 0.6
        # Errors of frames that cancel out leave the reported times right, so that these agree at least as well.
        assert player.zone_agreement - 1e-9 <= player.zone_time_agreement < 0.8


def test_zones_are_sure_where_no_edge_is_within_the_error() -> None:
    players = compare_with_truth(results(TRUTH, aside_m=0.8, error_m=0.81), TRUTH).players
    assert min(player.zone_agreement for player in players) < 1.0
    assert min(player.sure_zone_share for player in players) < 1.0
    for player in players:
        assert player.sure_zone_agreement == 1.0 or player.sure_zone_share == 0.0
