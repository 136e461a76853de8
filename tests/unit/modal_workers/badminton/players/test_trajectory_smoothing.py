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
