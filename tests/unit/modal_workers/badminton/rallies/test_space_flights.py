"""Flights in space, fitted again from what is known of their start."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.rallies.flight_model import Prior
from modal_workers.badminton.rallies.flight_piece import SpacePath
from modal_workers.badminton.rallies.flights import find_flights
from modal_workers.badminton.rallies.space_flights import refit
from modal_workers.badminton.shuttle.linking import link_shuttle
from simulators.badminton.match_options import CameraName, MatchOptions
from simulators.badminton.match_video import match_truth
from tests.harness.vision.shuttle_logs import candidate_log, person_log, picture_size, whole


def paths_seen_by(camera: CameraName) -> list[SpacePath]:
    truth = match_truth(MatchOptions(seed=28, duration_s=12.0, camera=camera, quick_service=True))
    size, segments = picture_size(truth), whole(truth)
    track = link_shuttle(candidate_log(truth), truth.time_s, size, segments, person_log(truth))
    flights = find_flights(track, truth.time_s, segments, size)
    return [flight.space for flight in flights if flight.space is not None][:3]


def test_flights_are_fitted_with_the_camera_that_saw_them() -> None:
    first, second = paths_seen_by("broadcast_high"), paths_seen_by("phone_back")
    assert first
    assert second
    together = first + second
    found, costs = refit(together, [path.origin_s for path in together], Prior.of_any(len(together)))
    for own, offset in ((first, 0), (second, len(first))):
        alone, own_costs = refit(own, [path.origin_s for path in own], Prior.of_any(len(own)))
        for number, path in enumerate(alone):
            assert np.allclose(found[offset + number].state, path.state, rtol=1e-3, atol=1e-3)
        assert np.allclose(costs[offset : offset + len(own)], own_costs, rtol=1e-3)
