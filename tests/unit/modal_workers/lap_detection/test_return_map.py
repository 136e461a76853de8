"""The return map: only stretches of the same road are in it."""

from __future__ import annotations

import numpy as np

from modal_workers.lap_detection.return_map import MIN_SHARE_OF_BEST, find_return_map, moments_of
from modal_workers.road_video.moving_samples import MovingSamples
from tests.unit.modal_workers.lap_detection.test_joined_copies import LAP_S, RATE_HZ, stretch


def test_scenery_of_the_out_lap_that_resembles_itself_a_little_is_no_lap() -> None:
    random = np.random.default_rng(5)
    straight, lap, back = stretch(random, 12), stretch(random, LAP_S), stretch(random, 6)
    resembling = 0.3 * straight + 0.7 * stretch(random, 12)
    video = np.concatenate([straight, resembling, lap, lap, lap[: 8 * RATE_HZ], back])
    vectors = video - video.mean(1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moving = MovingSamples(np.arange(len(vectors)), np.arange(len(vectors)) / RATE_HZ, vectors)

    alone = moments_of(MovingSamples(moving.index[:240], moving.clock_s[:240], moving.vectors[:240]))
    (weak,), _ = find_return_map(alone, (10.0, 300.0))
    paths, _ = find_return_map(moments_of(moving), (10.0, 300.0))
    assert weak.is_same_road, "it would be one by itself"
    assert weak.density < MIN_SHARE_OF_BEST * max(path.density for path in paths)
    assert {round(float(np.median(path.to_s - path.from_s))) for path in paths} == {LAP_S}
