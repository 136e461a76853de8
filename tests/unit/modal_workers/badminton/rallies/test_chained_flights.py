"""Two flights that meet at a contact."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.rallies.chained_flights import FlightEnd, linked
from modal_workers.badminton.rallies.flight_model import SpaceCamera
from modal_workers.badminton.rallies.flight_piece import SpacePath

NO_CAMERA = SpaceCamera(np.zeros((3, 4)), (1280, 720))


def path(place_m: tuple[float, float, float], deviation_m: tuple[float, float, float]) -> SpacePath:
    covariance = np.diag([*np.square(deviation_m), 0.5, 4.0, 0.5])
    covariance[1, 4] = covariance[4, 1] = -0.9 * deviation_m[1] * 2.0
    state = np.array([*place_m, 1.0, 12.0, 2.0])
    return SpacePath(1.0, state, covariance, np.zeros(0), np.zeros((0, 2)), 1.0, NO_CAMERA)


def test_a_flight_of_unknown_depth_begins_where_the_one_before_ended() -> None:
    short = path((3.0, 3.4, 1.6), (0.05, 1.5, 0.05))
    end = FlightEnd(np.array([3.0, 2.0, 1.6]), np.diag([0.01, 0.01, 0.01]), np.array([0.0, -10.0, -4.0]))
    better, joins = linked(short, end)
    assert abs(better.state[1] - 2.0) < 0.2
    assert better.state[4] > short.state[4], "the nearer to the net it begins, the slower it was"
    assert better.covariance[1, 1] < 0.2 < short.covariance[1, 1]
    assert -1.5 < joins < 0


def test_a_flight_that_begins_metres_away_is_another_one() -> None:
    sure = path((5.6, 9.9, 0.9), (0.2, 0.3, 0.2))
    end = FlightEnd(np.array([4.3, 6.8, 0.4]), np.diag([0.01, 0.04, 0.01]), np.array([0.0, 0.0, -2.0]))
    same, joins = linked(sure, end)
    assert same is sure
    assert joins < -5
