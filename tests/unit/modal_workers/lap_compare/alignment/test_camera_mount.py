"""Places at which frames are compared to find how a camera is mounted."""

from __future__ import annotations

import numpy as np

from modal_workers.lap_compare.alignment.matching import choose_places


def test_frames_are_compared_where_a_sample_of_b_shows_the_very_place() -> None:
    sampled_s = np.arange(0.0, 10.0, 0.04)
    time_b_s = np.sort(np.random.default_rng(3).uniform(0.5, 9.5, 300))
    places = choose_places(time_b_s, sampled_s, 28)
    distance_s = np.abs(time_b_s[places][:, None] - sampled_s).min(axis=1)
    assert len(places) == 28
    assert (np.diff(places) > 0).all()
    assert distance_s.max() < 0.008
    # places taken without a choice are up to half a sample away
    assert np.abs(time_b_s[:, None] - sampled_s).min(axis=1).max() > 0.015
