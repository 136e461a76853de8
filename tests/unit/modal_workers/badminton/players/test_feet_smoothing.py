"""The middle between the feet over time: followed quickly across the camera's view, smoothed more along it."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.players.feet_smoothing import DetectedFeet, smooth_feet
from modal_workers.badminton.players.trajectory_smoothing import smooth_trajectory

COUNT = 900
TIMES_S = np.arange(COUNT) / 30.0
SEGMENT = np.zeros(COUNT, np.int64)
#: One standard deviation of a place across and along the view of a low camera.
ACROSS_M, ALONG_M = 0.02, 0.15


def stepping() -> np.ndarray:
    """Return the way [N, 2] of a middle between feet: 0.5 m to a side and ahead in 0.25 s, a step a second."""
    step = np.clip((TIMES_S[:, None] - np.arange(1, 29)) / 0.25, 0, 1)
    return (0.5 * (3 * step**2 - 2 * step**3) * (-1.0) ** np.arange(28)).sum(axis=1)[:, None] * (0.8, 0.6) + (3.0, 9.0)


def lasting_noise() -> np.ndarray:
    """Return errors of variance 1, of which a share stays from frame to frame."""
    noise = np.random.default_rng(11).normal(size=(COUNT, 2))
    for frame in range(1, COUNT):
        noise[frame] = 0.8 * noise[frame - 1] + 0.6 * noise[frame]
    return noise


def seen_from(angle_rad: float) -> tuple[np.ndarray, DetectedFeet, np.ndarray]:
    """Return the true way, what a camera in that direction detects of it, and the turn to the axes of its view."""
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    view = np.array([[cosine, -sine], [sine, cosine]])
    true_m = stepping()
    errors = np.array([ACROSS_M, ALONG_M])
    covariance = view.T @ np.diag(errors**2) @ view
    feet = DetectedFeet(true_m + (lasting_noise() * errors) @ view, np.tile(covariance, (COUNT, 1, 1)))
    return true_m, feet, np.tile(view, (COUNT, 1, 1))


def test_a_camera_in_a_corner_sees_steps_as_well_as_one_behind_the_court() -> None:
    of_axes, of_view = [], []
    for angle_rad in (0.0, np.pi / 4):
        true_m, feet, view = seen_from(angle_rad)
        found = smooth_feet(feet, view, TIMES_S, SEGMENT)
        variances = feet.covariance_m2[:, (0, 1), (0, 1)]
        plain = smooth_trajectory(feet.position_m, variances, TIMES_S, SEGMENT)
        of_view.append(np.abs((found.position_m - true_m) @ view[0].T).mean(axis=0))
        of_axes.append(np.abs((plain.position_m - true_m) @ view[0].T).mean(axis=0))
    across = np.array(of_view)[:, 0]
    assert (across < 0.7 * np.array(of_axes)[:, 0]).all(), (of_view, of_axes)
    assert abs(across[1] - across[0]) < 0.01
    assert (np.array(of_view)[:, 1] < 1.15 * np.array(of_axes)[:, 1]).all()


def test_what_was_not_seen_stays_unknown() -> None:
    _, feet, view = seen_from(0.3)
    feet.position_m[300:400] = feet.covariance_m2[300:400] = np.nan
    known = np.isfinite(smooth_feet(feet, view, TIMES_S, SEGMENT).position_m).all(axis=1)
    assert np.array_equal(np.flatnonzero(~known), np.arange(300, 400))
