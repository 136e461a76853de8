"""The smoother of places over time."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.players.trajectory_smoothing import smooth_trajectory


def test_a_part_that_would_begin_where_nobody_was_detected_begins_before() -> None:
    times_s = np.arange(1400) / 30.0
    places = np.stack([times_s * 0.1, np.full(1400, 3.0)], axis=-1)
    places[::4] = np.nan
    places[1:20:4] = (0.0, 3.0)
    for shift in range(4):
        shifted = np.roll(places, shift, axis=0)
        shifted[0] = (0.0, 3.0)
        smooth = smooth_trajectory(shifted, np.full((1400, 2), 0.01), times_s, np.zeros(1400, np.int64))
        known = np.isfinite(smooth.error_m)
        assert known.sum() >= 1390
        assert np.isfinite(smooth.position_m[known]).all()


def _lasting_noise(count: int) -> np.ndarray:
    """Return errors of detections, of which a share stays from frame to frame."""
    noise = np.random.default_rng(5).normal(size=(count, 2))
    for frame in range(1, count):
        noise[frame] = 0.8 * noise[frame - 1] + 0.6 * noise[frame]
    return noise


def test_who_stands_does_not_walk_and_who_runs_is_not_held_back() -> None:
    times_s = np.arange(1500) / 30.0
    way = np.clip((times_s - 24.0) / 1.2, 0, 1)
    true_m = np.stack([np.full(1500, 3.0), 8.0 + 4.0 * (10 * way**3 - 15 * way**4 + 6 * way**5)], axis=-1)
    seen_m = true_m + 0.1 * _lasting_noise(1500)
    smooth = smooth_trajectory(seen_m, np.full((1500, 2), 0.1**2), times_s, np.zeros(1500, np.int64))
    speeds = np.hypot(*smooth.velocity_m_s.T)
    steps_m = np.hypot(*np.diff(smooth.position_m, axis=0).T)
    still = times_s < 22.0
    assert speeds[still].sum() / 30 < 0.6 * steps_m[still[1:]].sum()
    assert speeds.max() > 0.85 * 4.0 * 1.875 / 1.2


def test_a_detection_that_is_far_off_for_some_frames_moves_the_place_little() -> None:
    times_s = np.arange(300) / 30.0
    seen_m = np.tile((3.0, 9.0), (300, 1)) + 0.05 * _lasting_noise(300)
    seen_m[150:154, 1] += 0.6  # within what a person can do, as the gate has to allow for errors that last
    smooth = smooth_trajectory(seen_m, np.full((300, 2), 0.05**2), times_s, np.zeros(300, np.int64))
    assert np.abs(smooth.position_m[145:160] - (3.0, 9.0)).max() < 0.25
