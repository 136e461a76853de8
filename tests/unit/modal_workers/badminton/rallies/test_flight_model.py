"""A flight in space is found again from the pixels of one camera, with an error that it knows."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.rallies.flight_model import Prior, Sightings, SpaceCamera, fit_flights, fly, velocity
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import match_truth
from simulators.badminton.play import shuttle_flight

TRUTH = match_truth(MatchOptions(seed=5, duration_s=3.0))
CAMERA = SpaceCamera(TRUTH.image_from_world[0], (1280, 720))
STATES = np.array(
    [
        [3.0, 11.5, 2.5, 0.5, -45.0, -6.0],  # smash
        [2.0, 9.5, 0.6, 1.0, -14.0, 13.0],  # lift
        [4.0, 2.0, 2.4, -2.0, 22.0, 9.0],  # clear
        [3.5, 6.2, 1.2, 0.3, 4.5, 3.0],  # at the net
    ]
)


def test_the_path_is_that_of_the_simulator() -> None:
    times = np.array([0.05, 0.2, 0.5, 0.8])
    for state in STATES:
        true = shuttle_flight.fly(state[:3], state[3:], 0.0)
        wanted = np.array([true.at(float(time)) for time in times if time < true.duration_s])
        assert np.abs(fly(state[None], times[None])[0, : len(wanted)] - wanted).max() < 0.01
        assert np.allclose(velocity(state, 0.0), state[3:], rtol=0.05)


def test_place_and_velocity_are_found_within_their_errors() -> None:
    random = np.random.default_rng(1)
    elapsed = np.tile(np.arange(20) / 30, (40, 1))
    true = np.repeat(STATES, 10, axis=0)
    pixels = CAMERA.project(fly(true, elapsed))
    noisy = pixels + random.normal(0, 1.5, pixels.shape)
    weight = (np.isfinite(noisy).all(2) & (fly(true, elapsed)[..., 2] > 0)).astype(float)
    fits = fit_flights(Sightings(elapsed, np.nan_to_num(noisy), weight), CAMERA)
    error = fits.state[:, :3] - true[:, :3]
    assert np.median(np.linalg.norm(error, axis=1)) < 0.7
    deviations = np.abs(error) / np.sqrt(np.einsum("bii->bi", fits.covariance)[:, :3])
    assert (deviations < 3).mean() > 0.85


def test_the_pixels_of_a_bounce_fit_no_shot_that_flies_below_the_floor() -> None:
    bounce = np.array([[4.16, 12.8, 0.05, 0.1, -0.4, 1.8]])
    elapsed = np.arange(11)[None] / 30
    pixels = CAMERA.project(fly(bounce, elapsed))
    # A smash by the near player, and the bounce that it is.
    prior = Prior(
        np.array([[4.2, 11.5, 1.4, 0.0, -12.0, 3.0], [4.2, 12.8, 0.05, 0.0, 0.0, 0.5]]),
        np.array([[0.7, 0.7, 0.75, 5.0, 12.0, 11.0], [0.5, 0.5, 0.15, 1.2, 1.2, 1.2]]),
    )
    both = np.repeat(elapsed, 2, axis=0)
    fits = fit_flights(Sightings(both, np.repeat(pixels, 2, axis=0), np.ones(both.shape)), CAMERA, prior)
    assert fly(fits.state, both)[..., 2].min() > -0.3


def test_a_lift_that_leaves_the_picture_at_once_is_found_from_both_ends() -> None:
    # In the picture for a fifth of a second, above it for 1.6 s, and there again as it falls.
    filmed = match_truth(MatchOptions(seed=982, duration_s=3.0, camera="broadcast_low"))
    camera = SpaceCamera(filmed.image_from_world[0], (1280, 720))
    lift = np.array([[4.22, 2.8, 0.2, -1.1, 31.0, 46.0]])
    elapsed = np.arange(0.5, 63)[None] / 30
    pixels = camera.project(fly(lift, elapsed))
    inside = ((pixels > 0) & (pixels < (1280, 720))).all(2)
    assert 4 <= inside[0, :10].sum() <= 8 < inside.sum() < 25
    noisy = pixels + np.random.default_rng(2).normal(0, 1.5, pixels.shape)
    prior = Prior(np.array([[3.2, 2.7, 0.9, 0.0, 18.0, 28.0]]), np.array([[0.7, 0.7, 0.35, 5.0, 9.0, 14.0]]))
    fits = fit_flights(Sightings(elapsed, noisy, inside.astype(float)), camera, prior)
    assert np.abs(fits.state[0, :3] - lift[0, :3]).max() < 1.0
    assert fits.cost[0] < 3 * inside.sum()


def test_a_short_flight_that_is_known_to_end_at_the_net_does() -> None:
    shot = np.array([[4.0, 9.6, 0.7, 2.9, -13.6, 3.3]])
    elapsed = np.arange(1, 10)[None] / 30
    pixels = CAMERA.project(fly(shot, elapsed)) + np.random.default_rng(3).normal(0, 1.5, (1, 9, 2))
    weight = np.ones((1, 9))
    weight[0, -1] = 0  # it meets the net between two frames
    met = np.zeros((1, 9))
    met[0, -1] = 1
    # As if it had been a soft shot: what is seen hardly says how fast it is.
    prior = Prior(np.array([[3.4, 10.5, 1.2, 0.0, -3.0, 3.0]]), np.array([[0.7, 0.7, 0.4, 1.5, 4.0, 1.5]]))
    free = fit_flights(Sightings(elapsed, pixels, weight), CAMERA, prior)
    known = fit_flights(Sightings(elapsed, pixels, weight, met), CAMERA, prior)
    true = fly(shot, elapsed)[0, -1]
    assert abs(fly(free.state, elapsed)[0, -1, 1] - true[1]) > 1.0
    assert np.abs(fly(known.state, elapsed)[0, -1] - true).max() < 0.5
    assert known.covariance[0, 1, 1] < free.covariance[0, 1, 1]


def test_a_drop_away_from_the_camera_is_not_taken_for_a_fall_in_one_place() -> None:
    filmed = match_truth(MatchOptions(seed=1221, duration_s=3.0))
    camera = SpaceCamera(filmed.image_from_world[0], (1280, 720))
    drop = np.array([[2.7, 2.4, 2.5, -3.4, 16.7, -0.7]])
    elapsed = np.arange(26)[None] / 30
    pixels = camera.project(fly(drop, elapsed))
    noisy = pixels + np.random.default_rng(3).normal(0, 1.5, (8, 26, 2))
    every = np.repeat(elapsed, 8, axis=0)
    fits = fit_flights(Sightings(every, noisy, np.ones(every.shape)), camera)
    assert np.abs(fits.state[:, :3] - drop[:, :3]).max() < 1.0
