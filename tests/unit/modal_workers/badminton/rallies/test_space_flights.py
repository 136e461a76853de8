"""Flights in space, fitted again from what is known of their start."""

from __future__ import annotations

import math

import numpy as np

from modal_workers.badminton.rallies.flight_model import Prior, SpaceCamera
from modal_workers.badminton.rallies.flight_piece import SpacePath
from modal_workers.badminton.rallies.flights import find_flights
from modal_workers.badminton.rallies.space_flights import ChainPoints, find_space_flights, refit
from modal_workers.badminton.shuttle.linking import link_shuttle
from simulators.badminton.match_options import CameraName, MatchOptions
from simulators.badminton.match_video import match_truth
from simulators.badminton.play.shuttle_flight import aim, fly
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


def test_a_flight_begins_where_the_picture_shows_no_bend() -> None:
    """A service falls to the far player, whose drop goes on downwards in the picture about as fast."""
    filmed = match_truth(MatchOptions(seed=1220, duration_s=3.0, camera="phone_corner"))
    camera = SpaceCamera(filmed.image_from_world[0], (1280, 720))
    met_m, net_m = np.array([2.985, 1.515, 2.518]), np.array([4.3, 6.67, 0.99])
    served_m = np.array([3.998, 9.106, 1.0])
    velocities = aim(served_m, met_m, math.radians(60.0)), aim(met_m, net_m, math.radians(-12.0))
    assert velocities[0] is not None
    assert velocities[1] is not None
    service, drop = fly(served_m, velocities[0], 0.03), fly(met_m, velocities[1], 0.03)
    met_s = float(service.time_s[(service.xyz_m[:, 2] > met_m[2]).nonzero()[0][-1]])
    times_s = np.arange(0.01, met_s + 0.36, 1 / 30)
    places = np.array([service.at(each) if each < met_s else drop.at(each - met_s) for each in times_s.tolist()])
    pixels = camera.project(places) + np.random.default_rng(2).normal(0, 1.5, (len(times_s), 2))
    seen = np.flatnonzero(((pixels > 0) & (pixels < (1280, 720))).all(1))
    flights = find_space_flights(ChainPoints(seen, times_s[seen], pixels[seen], 0), times_s, camera)
    assert len(flights) == 2
    assert abs(flights[1].start_s - met_s) < 0.07
