"""The return map: only stretches of the same road are in it."""

from __future__ import annotations

import numpy as np

from modal_workers.lap_detection.return_map import MIN_SHARE_OF_BEST, find_return_map, moments_of
from tests.harness.vision.lap_descriptors import RATE_HZ, moving_samples, stretch

LAP_S = 40


def test_scenery_of_the_out_lap_that_resembles_itself_a_little_is_no_lap() -> None:
    random = np.random.default_rng(5)
    straight, lap, back = stretch(random, 12), stretch(random, LAP_S), stretch(random, 6)
    resembling = 0.3 * straight + 0.7 * stretch(random, 12)
    drive = moving_samples(straight, resembling, lap, lap, lap[: 8 * RATE_HZ], back)

    (weak,), _ = find_return_map(moments_of(moving_samples(straight, resembling)), (10.0, 300.0))
    paths, _ = find_return_map(moments_of(drive), (10.0, 300.0))
    assert weak.is_same_road, "it would be one by itself"
    assert weak.density < MIN_SHARE_OF_BEST * max(path.density for path in paths)
    assert {round(float(np.median(path.to_s - path.from_s))) for path in paths} == {LAP_S}
