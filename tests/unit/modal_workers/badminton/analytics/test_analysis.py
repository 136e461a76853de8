"""All figures of matches: of generated ones with known motion, and of the simulator's truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.analytics.motion import CourtTrack, measure_motion
from modal_workers.badminton.analytics.own_half import own_half
from modal_workers.badminton.analytics.shots import measure_shots
from modal_workers.badminton.analytics.zones import measure_zones
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.rallies.rally import Hit
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import match_truth
from tests.harness.vision.badminton_matches import known_match, without_court
from tests.harness.vision.badminton_persons import shirts
from tests.harness.vision.simulated_detections import court_segments, detections


def test_figures_of_a_match_are_those_of_its_motion() -> None:
    known = known_match(duration_s=40)
    analysis = analyse(known.match)
    for figures in analysis.players:
        true_m = known.position_m[figures.player]
        length_m = float(np.hypot(*np.diff(true_m, axis=0).T).sum())
        assert figures.motion.distance_m == pytest.approx(length_m, rel=0.05)
        assert figures.motion.top_speed_m_s == pytest.approx(known.speed_m_s[figures.player].max(), rel=0.1)
        assert figures.in_rallies is not None
        assert figures.in_rallies.mean_speed_m_s > figures.motion.mean_speed_m_s
        assert figures.outlier_count == figures.player + 2
        assert figures.zones.total_s == pytest.approx(40, abs=0.1)
    assert sum(figures.hit_count for figures in analysis.players) == sum(len(r.hits) for r in known.match.rallies)
    assert analysis.play_time.rally_s == pytest.approx(sum(r.end_s - r.start_s for r in known.match.rallies))
    assert analysis.speed_m_s.shape == (2, known.match.frame_count)


def test_what_is_in_rallies_is_the_sum_over_the_rallies() -> None:
    match = known_match(duration_s=40).match
    passed = replace(match.hits[0], frame=0, time_s=0.0)
    analysis = analyse(replace(match, hits=(passed, *match.hits)))
    for number, figures in enumerate(analysis.players):
        own = [rally.players[number] for rally in analysis.rallies]
        assert figures.in_rallies is not None
        assert figures.in_rallies.known_s == pytest.approx(sum(motion.known_s for motion in own))
        assert figures.in_rallies.distance_m == pytest.approx(sum(motion.distance_m for motion in own))
        assert figures.hit_count == sum(rally.hit_counts[number] for rally in analysis.rallies)


def test_rallies_have_figures_of_their_own() -> None:
    known = known_match(duration_s=40)
    for figures in analyse(known.match).rallies:
        rally = figures.rally
        assert figures.duration_s == pytest.approx(6.0, abs=0.1) or rally.number == len(known.match.rallies)
        for player, motion in enumerate(figures.players):
            true_m = known.position_m[player, rally.first_frame : rally.last_frame + 1]
            length_m = float(np.hypot(*np.diff(true_m, axis=0).T).sum())
            assert abs(motion.distance_m - length_m) <= max(motion.distance_error_m, 0.5)
        assert sum(figures.hit_counts) == len(rally.hits)
        assert len(figures.shots) == len(rally.hits) - 1
        assert {shot.rally for shot in figures.shots} == {rally.number}


def test_what_another_camera_shows_is_not_analysed() -> None:
    known = known_match(duration_s=20)
    analysis = analyse(without_court(known.match, 250, "a replay"))
    assert analysis.players[0].motion.known_s == pytest.approx(10, abs=0.1)
    assert np.isnan(analysis.speed_m_s[:, 250:]).all()
    assert (analysis.frame_s[250:] == 0).all()


def test_a_match_without_players_has_its_rallies() -> None:
    known = known_match(duration_s=20)
    analysis = analyse(replace(known.match, tracks=None, mode="rally_only"))
    assert analysis.players == ()
    assert [figures.rally.number for figures in analysis.rallies] == [1, 2, 3]
    assert analysis.play_time.rally_s > 0


def test_in_doubles_a_rally_is_won_by_the_pair() -> None:
    analysis = analyse(known_match(duration_s=30, players=4).match)
    won = [figures.won_count for figures in analysis.players]
    assert won[0] == won[1] > 0
    assert won[2] == won[3] == 0


def test_a_shot_is_the_ground_between_the_hitters_over_the_time_of_flight() -> None:
    position_m = np.zeros((2, 100, 2), np.float32)
    position_m[0] = (3.0, 2.0)
    position_m[1] = (3.0, 12.0)
    errors = np.full((2, 100), 0.1, np.float32)

    def hit(frame: int, player: int | None, confidence: float = 0.9) -> Hit:
        return Hit(frame, frame / 50, player, confidence, 0.9, (0.0, 0.0))

    (shot,) = measure_shots(1, [hit(0, 0), hit(50, 1)], position_m, errors)
    assert shot.mean_ground_speed_between_hits_m_s == pytest.approx(10.0)
    (sure,) = measure_shots(1, [hit(0, 0), hit(50, 1)], position_m, np.zeros_like(errors))
    assert 0.5 < sure.error_m_s < shot.error_m_s, "the times of the hits are not exact"
    assert measure_shots(1, [hit(0, 0), hit(50, None)], position_m, errors) == ()
    assert measure_shots(1, [hit(0, 0), hit(50, 1, 0.3)], position_m, errors) == ()
    assert measure_shots(1, [hit(0, 0), hit(50, 0)], position_m, errors) == (), "a hit in between was not seen"
    position_m[1] = np.nan
    assert measure_shots(1, [hit(0, 0), hit(50, 1)], position_m, errors) == ()


def test_figures_of_simulated_matches_are_near_the_truth() -> None:
    """Detections as a pose network reports them, through the players' stage."""
    distances, tops, zones = [], [], []
    for seed, doubles in ((11, False), (12, True), (13, False)):
        truth = match_truth(MatchOptions(seed=seed, duration_s=30.0, rate_hz=30.0, doubles=doubles))
        random, count = np.random.default_rng(seed), len(truth.time_s)
        log, _ = detections(random, truth, shirts(random, len(truth.positions_m), similarity=0.3))
        courts, size_px = court_segments(truth), (truth.options.width_px, truth.options.height_px)
        tracks, _ = track_players(
            log, truth.time_s, courts, picture_size_px=size_px, players="auto", has_skeletons=True
        )
        assert tracks.player_count == len(truth.positions_m)
        for player, position_m in enumerate(tracks.position_m):
            track = CourtTrack.of(
                truth.time_s,
                (position_m, tracks.position_error_m[player], tracks.velocity_m_s[player]),
                tracks.observed[player],
                np.ones(count, np.bool_),
                np.zeros(count, np.int32),
            )
            away_m = np.nanmedian(np.linalg.norm(truth.positions_m - position_m, axis=2), axis=1)
            true = int(away_m.argmin())
            motion = measure_motion(track)
            length_m = float(np.hypot(*np.diff(truth.positions_m[true], axis=0).T).sum())
            distances.append(motion.distance_m / length_m - 1)
            tops.append(motion.top_speed_m_s / truth.speeds_mps[true].max() - 1)
            shares = [
                measure_zones(
                    own_half(np.asarray(where), np.zeros(count, np.int8)), np.full(count, 1 / 30), np.zeros(count)
                ).share()
                for where in (truth.positions_m[true], position_m)
            ]
            zones.append(1 - 0.5 * float(np.abs(shares[0] - shares[1]).sum()))
    assert abs(float(np.median(distances))) <= 0.08
    assert float(np.mean(np.abs(distances))) <= 0.1
    assert float(np.mean(np.abs(tops))) <= 0.16
    assert float(np.mean(zones)) >= 0.95
