"""Copies of one file that are joined: the map leads from lap to lap and from copy to copy."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from modal_workers.lap_detection.crossings import find_crossings
from modal_workers.lap_detection.laps import why_nothing
from modal_workers.lap_detection.return_map import ReturnPath, find_return_map, moments_of
from modal_workers.road_video.moving_samples import MovingSamples
from tests.harness.vision.lap_descriptors import RATE_HZ, moving_samples, stretch

OUT_S, LAP_S, IN_S = 10, 40, 6


def drive(laps: int, copies: int) -> MovingSamples:
    """Return an out-lap, laps and an in-lap that begins as the others, several times."""
    random = np.random.default_rng(4)
    out, lap, back = (stretch(random, seconds) for seconds in (OUT_S, LAP_S, IN_S))
    return moving_samples(*[out, *([lap] * laps), lap[: 8 * RATE_HZ], back] * copies)


@pytest.mark.parametrize(("laps", "copies"), [(1, 2), (2, 2)])
def test_the_laps_of_all_copies_are_found_and_none_over_the_joint(laps: int, copies: int) -> None:
    moving = drive(laps, copies)
    moments = moments_of(moving)
    paths, _ = find_return_map(moments, (10.0, 300.0))
    line = find_crossings(moving, moments, paths, OUT_S + 4.0, 10.0)
    assert line.laps == laps * copies
    for before, after in pairwise(line.crossings):
        if before.chain == after.chain:
            assert after.clock_s - before.clock_s == pytest.approx(LAP_S, abs=0.2)


@pytest.mark.parametrize(
    ("density", "over_chance", "reason"),
    [(0.24, 1.1, "no_repeat"), (0.24, 1.8, "similar_scenery"), (0.1, 1.8, "no_repeat")],
)
def test_what_mirrored_frames_gain_as_well_is_no_similar_scenery(
    density: float, over_chance: float, reason: str
) -> None:
    rejected = ReturnPath(np.array([0.0, 9.0]), np.array([20.0, 29.0]), density, over_chance, 0.0)
    found = why_nothing(
        static=False, mean_level=90.0, moving_s=60.0, min_lap_s=20.0, rejected=rejected, line_given=False
    )
    assert found == reason
