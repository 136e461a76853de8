"""Shares of long enumerations: together they are the whole, and none leaves out a value at every place."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.harness.share import Share


@pytest.mark.parametrize("every", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_runs_with_all_offsets_try_each_case_once(every: int, count: int) -> None:
    cases = list(range(count))
    tried = Counter(case for offset in range(every) for case in Share(offset).of(cases, every))
    assert tried == Counter(cases)
    assert len(Share(every - 1).of(list(range(12 * every)), every)) == 12
    assert Share(1, is_whole=True).of(cases, every) == cases


@pytest.mark.parametrize("period", [2, 3, 12])
@pytest.mark.parametrize("every", [2, 3, 4])
def test_each_of_some_values_that_come_again_and_again_is_tried_somewhere(every: int, period: int) -> None:
    for offset in range(every):
        assert set(Share(offset).of([number % period for number in range(1200)], every)) == set(range(period))
