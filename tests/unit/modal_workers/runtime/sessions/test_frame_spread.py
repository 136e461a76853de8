"""Frames of a chunk are spread evenly over time, the newest among them."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from modal_workers.runtime.sessions.frame_spread import densest, spread_evenly

TIMES = st.lists(st.floats(0, 1000, allow_nan=False), min_size=1, max_size=60)


@given(TIMES, st.integers(1, 12))
def test_as_many_as_wanted_in_order_with_the_newest(times_s: list[float], count: int) -> None:
    chosen = spread_evenly(times_s, count)
    assert len(chosen) == min(count, len(times_s))
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == len(times_s) - 1


@given(st.integers(2, 200), st.integers(2, 12))
def test_of_frames_at_a_steady_rate_no_interval_is_much_longer_than_another(total: int, count: int) -> None:
    chosen = spread_evenly([number / 30 for number in range(total)], count)
    steps = [later - earlier for earlier, later in itertools.pairwise(chosen)]
    assert max(steps) - min(steps) <= 1


def test_a_gap_in_the_stream_stays_a_gap() -> None:
    times_s = [0.0, 0.1, 0.2, 0.3, 5.0, 5.1, 5.2, 5.3]
    assert spread_evenly(times_s, 3) == [0, 3, 7]  # 2.65 s is nearer to 0.3 s than to 5.0 s
    assert spread_evenly(times_s, 1) == [7]


def test_many_more_frames_than_places_are_thinned_evenly() -> None:
    kept: list[float] = []
    for number in range(1200):
        kept.append(number / 120)
        if len(kept) > 24:
            del kept[densest(kept)]
    steps = [later - earlier for earlier, later in itertools.pairwise(kept)]
    assert (kept[0], kept[-1]) == (0.0, 1199 / 120)
    assert max(steps[:-1]) <= 4 * min(steps[:-1]) + 1 / 120
    assert math.isclose(sum(steps), 1199 / 120)
