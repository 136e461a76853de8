"""The middle between the feet over time: followed quickly across the camera's view, smoothed more along it."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.players.feet_smoothing import DetectedFeet, smooth_feet

COUNT = 600
TIMES_S = np.arange(COUNT) / 30.0
SEGMENT = np.zeros(COUNT, np.int64)
#: One standard deviation of a place across and along the view of a low camera.
ERRORS_M = np.array([0.02, 0.15])


def stepping() -> np.ndarray:
    """Return the way [N] of a middle between feet: 0.5 m to one side and back in 0.25 s, a step a second."""
    share = np.clip((TIMES_S[:, None] - np.arange(1, 19)) / 0.25, 0, 1)
    return (0.5 * (3 * share**2 - 2 * share**3) * (-1.0) ** np.arange(18)).sum(axis=1)


def lasting_noise() -> np.ndarray:
    """Return errors of variance 1, of which a share stays from frame to frame."""
    noise = np.random.default_rng(11).normal(size=(COUNT, 2))
    for frame in range(1, COUNT):
        noise[frame] = 0.8 * noise[frame - 1] + 0.6 * noise[frame]
    return noise


def found_in_view(angle_rad: float, in_view_m: np.ndarray) -> np.ndarray:
    """Return the smoothed places in the axes of a view in that direction; detected were ``in_view_m`` [N, 2]."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    view = np.array([[cosine, -sine], [sine, cosine]])
    covariance = np.tile(view.T @ np.diag(ERRORS_M**2) @ view, (COUNT, 1, 1))
    motion = smooth_feet(DetectedFeet(in_view_m @ view, covariance), np.tile(view, (COUNT, 1, 1)), TIMES_S, SEGMENT)
    return motion.position_m @ view.T


def test_a_camera_in_a_corner_sees_as_well_as_one_behind_the_court() -> None:
    seen_m = np.stack([stepping(), stepping()], axis=1) + lasting_noise() * ERRORS_M
    behind, corner = found_in_view(0.0, seen_m), found_in_view(np.pi / 4, seen_m)
    assert np.abs(behind - corner).max() < 1e-6


def test_a_step_across_the_view_is_followed_and_errors_along_it_are_not() -> None:
    across, noise = stepping(), lasting_noise() * ERRORS_M
    found = found_in_view(0.3, np.stack([across, np.full(COUNT, 4.0)], axis=1) + noise)
    assert np.abs(found[:, 0] - across).max() < 0.07
    assert np.std(found[:, 1]) < 0.75 * np.std(noise[:, 1])


def test_what_was_not_seen_stays_unknown() -> None:
    seen_m = np.full((COUNT, 2), 4.0)
    seen_m[300:400] = np.nan
    known = np.isfinite(found_in_view(0.3, seen_m)).all(axis=1)
    assert np.array_equal(np.flatnonzero(~known), np.arange(300, 400))
