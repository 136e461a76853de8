"""The robot's clock offset: asymmetric delays, drift, and a clock that is set."""

from __future__ import annotations

import random

import pytest
from saccade_robot.clock import Exchange, Offset, OffsetFilter, estimate_offset

TRUE_S = -0.12
ROUND_S = 30.0


def asked(at_s: float, there_s: float, back_s: float, offset_s: float = TRUE_S) -> Exchange:
    """Ask once: the answer is of the moment at which the question arrived."""
    return Exchange(at_s, at_s + there_s + offset_s, at_s + there_s + back_s)


def test_the_quickest_of_a_round_counts_and_says_how_far_it_may_be_off() -> None:
    exchanges = [asked(0.0, 0.4, 0.1), asked(1.0, 0.01, 0.012), asked(2.0, 0.1, 0.9)]
    found = estimate_offset(exchanges)
    assert found is not None
    assert found.offset_s == pytest.approx(TRUE_S, abs=0.0011)
    assert found.error_s == pytest.approx(0.011)
    assert estimate_offset([]) is None


def test_a_round_that_stood_still_on_one_side_does_not_replace_an_exact_one() -> None:
    offsets = OffsetFilter()
    exact = offsets.add(Offset(TRUE_S + 0.002, 0.1), 0.0)
    slow = estimate_offset([asked(30.0, 0.1, 0.24), asked(31.0, 0.1, 0.3)])
    assert slow is not None
    assert abs(slow.offset_s - TRUE_S) == pytest.approx(0.07)
    kept = offsets.add(slow, ROUND_S)
    assert kept.offset_s == exact.offset_s
    assert kept.error_s == pytest.approx(0.1 + ROUND_S * 1e-4), "it may have drifted since"
    better = Offset(TRUE_S, 0.001)
    assert offsets.add(better, 2 * ROUND_S) == better


def test_whatever_the_line_does_the_offset_is_no_further_off_than_it_says(seed: int) -> None:
    dice = random.Random(seed)
    offsets, drift = OffsetFilter(), dice.uniform(-9e-5, 9e-5)
    plain_s, kept_s = [], []
    for number in range(300):
        at_s = number * ROUND_S
        true_s = TRUE_S + drift * at_s
        exchanges = [
            asked(at_s, *(0.1 + dice.expovariate(1 / dice.choice((0.002, 0.3))) for _ in range(2)), offset_s=true_s)
            for _ in range(8)
        ]
        measured = estimate_offset(exchanges)
        assert measured is not None
        kept = offsets.add(measured, at_s)
        assert abs(kept.offset_s - true_s) <= kept.error_s + 1e-9, (seed, number)
        assert kept.error_s <= measured.error_s
        plain_s.append(abs(measured.offset_s - true_s))
        kept_s.append(abs(kept.offset_s - true_s))
    assert sum(kept_s) < sum(plain_s), seed


def test_a_clock_that_was_set_is_followed_at_once() -> None:
    offsets = OffsetFilter()
    offsets.add(Offset(TRUE_S, 0.001), 0.0)
    moved = Offset(TRUE_S + 0.5, 0.2)
    assert offsets.add(moved, ROUND_S) == moved
    assert offsets.add(Offset(TRUE_S + 0.55, 0.3), 2 * ROUND_S).offset_s == moved.offset_s


def test_an_old_offset_grows_uncertain_until_a_worse_one_is_better() -> None:
    offsets = OffsetFilter()
    offsets.add(Offset(TRUE_S, 0.001), 0.0)
    later = Offset(TRUE_S + 0.01, 0.05)
    assert offsets.add(later, 480.0).offset_s == TRUE_S
    assert offsets.add(later, 500.0) == later
