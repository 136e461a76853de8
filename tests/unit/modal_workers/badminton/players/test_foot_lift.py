"""Places of somebody who walks, seen by a low camera: a lifted foot seems to be farther away than it is."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.players.floor_points import FloorPoints, floor_points
from modal_workers.badminton.players.foot_lift import standing_places
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import match_truth
from tests.harness.vision.badminton_persons import shirts
from tests.harness.vision.simulated_detections import Detector, court_segments, detections

OPTIONS = MatchOptions(seed=43, duration_s=15.0, camera="phone_back")


def far_player(
    detector: Detector, options: MatchOptions = OPTIONS
) -> tuple[FloorPoints, np.ndarray, np.ndarray, np.ndarray]:
    """Return the points of a match, which are the far player's, the true places there and the frames' times."""
    truth = match_truth(options)
    random = np.random.default_rng(options.seed)
    log, person = detections(random, truth, shirts(random, 2), detector)
    points = floor_points(log, court_segments(truth), (options.width_px, options.height_px))
    mine = np.flatnonzero(person[points.row] == 0)
    return points, mine, truth.positions_m[0, points.frame[mine]], truth.time_s


def test_lifted_feet_do_not_move_a_player_away_from_the_camera() -> None:
    points, mine, true_m, times_s = far_player(Detector())
    raw_m = points.position_m[mine] - true_m
    standing = standing_places(points, mine, times_s)
    place_m, variance_m2 = standing.position_m, standing.variance_m2
    found_m = place_m - true_m
    assert np.mean(raw_m[:, 1]) < -0.12
    assert abs(np.mean(found_m[:, 1])) < 0.06
    assert np.std(found_m[:, 1]) < 0.85 * np.std(raw_m[:, 1])
    assert np.mean(variance_m2 <= points.variance_m2[mine] + 1e-9) > 0.9
    assert (variance_m2 > 0).all()


def test_a_jump_does_not_move_a_player_away_from_the_camera() -> None:
    # Three smashes and a clear from the far base line, each from a jump.
    options = MatchOptions(seed=1220, duration_s=21.0, camera="broadcast_low", quick_service=True, bystanders=True)
    points, mine, true_m, times_s = far_player(Detector(), options)
    place_m = standing_places(points, mine, times_s).position_m
    raw_m, found_m = points.position_m[mine] - true_m, place_m - true_m
    in_air = raw_m[:, 1] < -1.0
    assert in_air.sum() > 20
    assert np.median(np.abs(found_m[in_air, 1])) < 0.4 * np.median(np.abs(raw_m[in_air, 1]))
    assert np.abs(np.mean(found_m[:, 1])) < 0.06


def test_without_skeletons_places_stay_as_they_are() -> None:
    points, mine, _, times_s = far_player(Detector(skeletons=False))
    standing = standing_places(points, mine, times_s)
    place_m, variance_m2 = standing.position_m, standing.variance_m2
    assert np.array_equal(place_m, points.position_m[mine])
    assert np.allclose(variance_m2, points.variance_m2[mine])
    none = np.zeros(0, np.int64)
    assert standing_places(points, none, times_s).position_m.shape == (0, 2)
