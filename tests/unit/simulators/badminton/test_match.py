"""The ground truth of a match is consistent in itself: rallies, hits, players, camera."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M, NET_Y_M
from simulators.badminton.body.skeleton import JOINTS
from simulators.badminton.match_options import CAMERA_NAMES, CameraName, MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from simulators.badminton.picture.match_camera import play_camera
from simulators.badminton.truth_from_world import make_match

SINGLES = MatchOptions(seed=5, duration_s=40, rate_hz=60, width_px=640, height_px=360)


@pytest.fixture(scope="module")
def singles() -> MatchTruth:
    return match_truth(SINGLES)


@pytest.fixture(scope="module")
def doubles() -> MatchTruth:
    return match_truth(replace(SINGLES, doubles=True, change_of_ends_after=1))


def test_the_same_options_give_the_same_match(singles: MatchTruth) -> None:
    again = match_truth(SINGLES)
    assert np.array_equal(again.keypoints_px, singles.keypoints_px)
    assert np.array_equal(again.shuttle_px, singles.shuttle_px, equal_nan=True)
    assert again.hits == singles.hits
    assert match_truth(replace(SINGLES, seed=6)).hits != singles.hits


def test_players_hit_in_turn_and_at_the_shuttle(singles: MatchTruth) -> None:
    assert len(singles.rallies) >= 2
    for rally in singles.rallies:
        hits = [hit for hit in singles.hits if rally.start_s <= hit.time_s <= rally.end_s]
        assert hits[0].time_s == rally.start_s
        assert hits[0].player == rally.server
        assert all(first.player != second.player for first, second in pairwise(hits))
    for hit in singles.hits:
        assert abs(singles.time_s[hit.frame] - hit.time_s) <= 0.5 / 60 + 1e-9
        assert np.linalg.norm(singles.shuttle_m[hit.frame] - hit.xyz_m) < 1.0  # at up to 60 m/s
        assert np.linalg.norm(singles.hips_m[hit.player, hit.frame] - hit.xyz_m[:2]) < 1.7


def test_a_rally_ends_where_its_reason_says(singles: MatchTruth) -> None:
    for rally in singles.rallies:
        if not rally.complete:
            continue
        x, y, z = singles.shuttle_m[np.searchsorted(singles.time_s, rally.end_s)]
        inside = 0.4 < x < COURT_WIDTH_M - 0.4 and -0.06 < y < COURT_LENGTH_M + 0.06
        if rally.reason == "net":
            assert abs(y - NET_Y_M) < 0.2
        else:
            assert z < 0.3
            assert inside == (rally.reason != "out")
    scores = [sum(rally.score) for rally in singles.rallies]
    assert scores == list(range(1, len(scores) + 1))


def test_players_move_as_people_do(singles: MatchTruth, doubles: MatchTruth) -> None:
    for truth in (singles, doubles):
        assert truth.speeds_mps.max() < 6.0
        assert truth.speeds_mps.max() > 2.5
        assert np.abs(np.diff(truth.speeds_mps, axis=1)).max() * 60 < 6.5
        # No foot jumps, and the feet stay below the hips.
        steps = np.linalg.norm(np.diff(truth.positions_m, axis=1), axis=-1)
        assert steps.max() * 60 < 12
        assert np.linalg.norm(truth.positions_m - truth.hips_m, axis=-1).max() < 0.6


def test_persons_keep_their_numbers_through_a_change_of_ends(doubles: MatchTruth) -> None:
    (start, end), *_ = doubles.changes_of_ends_s
    before = doubles.positions_m[:, np.searchsorted(doubles.time_s, start), 1] > NET_Y_M
    after = doubles.positions_m[:, min(np.searchsorted(doubles.time_s, end), len(doubles.time_s) - 1), 1] > NET_Y_M
    assert before.tolist() == [False, False, True, True]
    assert after.tolist() == [True, True, False, False]


@pytest.mark.parametrize("camera", CAMERA_NAMES)
def test_the_cameras_see_the_court_and_the_players(camera: CameraName) -> None:
    truth = match_truth(replace(SINGLES, camera=camera, duration_s=4))
    frame = truth.frame(0)
    assert frame.image_from_court is not None
    corners = np.array([[x, y, 1] for x in (0, COURT_WIDTH_M) for y in (0, COURT_LENGTH_M)]) @ frame.image_from_court.T
    pixels = corners[:, :2] / corners[:, 2:]
    assert (corners[:, 2] > 0).all()
    assert ((pixels > 0) & (pixels < (640, 360))).all()
    assert frame.keypoints_visible.mean() > 0.95
    ankles = frame.keypoints_px[:, 15:].mean(axis=1)
    for player in range(2):
        left, top, right, bottom = frame.boxes_px[player]
        assert left < ankles[player, 0] < right
        assert top < ankles[player, 1] < bottom


def test_a_truth_is_read_as_it_was_written(singles: MatchTruth, tmp_path: Path) -> None:
    singles.save(tmp_path / "match.mp4")
    read = MatchTruth.load(tmp_path / "match.mp4")
    assert read.options == singles.options
    assert (read.hits, read.rallies, read.segments) == (singles.hits, singles.rallies, singles.segments)
    assert np.array_equal(read.keypoints_px, singles.keypoints_px, equal_nan=True)
    assert np.array_equal(read.shuttle_visible, singles.shuttle_visible)


def test_the_shuttle_moves_without_jumps_and_the_rackets_meet_it() -> None:
    match = make_match(replace(SINGLES, duration_s=60, change_of_ends_after=1))
    times = np.arange(0, 60, 0.001)
    places, _ = match.world.shuttle(times)
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.2, "100 m/s and the reach of a hand"
    rackets = [
        match.world.bodies[hit.player].at(hit.time_s)[JOINTS["racket_head"]] - hit.xyz_m for hit in match.truth.hits
    ]
    assert np.median(np.linalg.norm(rackets, axis=1)) < 0.05
    assert np.percentile(np.linalg.norm(rackets, axis=1), 90) < 0.2


def test_nobody_walks_through_the_net(doubles: MatchTruth) -> None:
    on_near_half = doubles.hips_m[:, :, 1] > NET_Y_M
    changes = on_near_half[:, 1:] != on_near_half[:, :-1]
    assert changes.any(axis=1).all(), "they have changed ends"
    assert (doubles.hips_m[:, 1:, 0][changes] < -0.3).all()


@pytest.mark.parametrize("seed", range(4))
def test_any_seed_gives_a_match(seed: int) -> None:
    truth = match_truth(
        replace(SINGLES, seed=seed, duration_s=30, doubles=seed % 2 == 1, quick_service=True, rate_hz=10)
    )
    assert len(truth.rallies) >= 2
    assert not np.isnan(truth.shuttle_m).any()
    assert len(truth.hits) > len(truth.rallies)


@pytest.mark.parametrize("camera", CAMERA_NAMES)
@pytest.mark.parametrize("size", [(1280, 720), (720, 1280)])
def test_every_seed_s_camera_has_the_whole_court_in_view(camera: CameraName, size: tuple[int, int]) -> None:
    corners = np.array([[x, y, 0.0] for x in (0, COURT_WIDTH_M) for y in (0, COURT_LENGTH_M)])
    for seed in range(20):
        pose = play_camera(MatchOptions(seed=seed, camera=camera, width_px=size[0], height_px=size[1]))
        pixels, depth = pose.project(corners)
        assert (depth > 1).all()
        assert ((pixels > 5) & (pixels < np.array(size) - 5)).all()
        aside = play_camera(MatchOptions(seed=seed, camera=camera, half_out_of_view=True))
        floor = np.array([[x, y, 0.0] for x in np.linspace(0, 6.1, 12) for y in np.linspace(0, 13.4, 12)])
        pixels, depth = aside.project(floor)
        seen = ((pixels > 0) & (pixels < (aside.width_px, aside.height_px))).all(axis=1) & (depth > 0)
        assert 0.1 < seen.mean() < 0.8
