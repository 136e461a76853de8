"""Descriptor matching, compared with a brute-force reference implementation."""

from __future__ import annotations

from collections.abc import Iterable
from math import acos

import numpy as np
import pytest
from numpy.typing import NDArray

from modal_workers.nerf.poses.descriptor_matching import FARTHEST_RAD, NORM, RATIO, match_descriptors

Floats = NDArray[np.float32]


def descriptors(rng: np.random.Generator, count: int) -> Floats:
    """Return random descriptors [count, 128] in COLMAP's format: RootSIFT, scaled by 512."""
    shares = rng.gamma(0.4, size=(count, 128))
    return np.clip(np.rint(NORM * np.sqrt(shares / shares.sum(axis=1, keepdims=True))), 0, 255).astype(np.float32)


def seen_again(rng: np.random.Generator, rows: Floats, noise: float) -> Floats:
    return np.clip(np.rint(rows + rng.normal(0, noise, rows.shape)), 0, 255).astype(np.float32)


def by_the_rule(one: Floats, other: Floats) -> list[tuple[int, int]]:
    """Return mutual best matches that pass the ratio test, by comparing every pair."""

    def chosen(row: Floats, rows: Iterable[Floats]) -> int | None:
        angles = [acos(min(1.0, int(row.astype(int) @ them.astype(int)) / NORM**2)) for them in rows]
        first, *rest = sorted(range(len(angles)), key=lambda number: (angles[number], number))
        if angles[first] > FARTHEST_RAD or (rest and angles[first] >= RATIO * angles[rest[0]]):
            return None
        return first

    there = [chosen(row, other) for row in one]
    back = [chosen(row, one) for row in other]
    return [(row, column) for row, column in enumerate(there) if column is not None and back[column] == row]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("ones", "others"), [(40, 55), (300, 20), (1, 30), (30, 1), (1, 1)])
def test_matches_are_those_of_the_rule(seed: int, ones: int, others: int) -> None:
    rng = np.random.default_rng([seed, ones, others])
    one = descriptors(rng, ones)
    other = descriptors(rng, others)
    again = rng.permutation(min(ones, others))
    other[again] = seen_again(rng, one[: len(again)], noise=rng.uniform(2, 14))
    # a feature with two equally good candidates has no match
    other[-1], one[-1] = other[0], one[0]
    found = match_descriptors(one, other)
    assert found.dtype == np.uint32
    assert [tuple(pair) for pair in found.tolist()] == by_the_rule(one, other), f"seed {seed}"


def test_more_rows_than_are_compared_at_once_give_the_same_as_any_order_of_them() -> None:
    rng = np.random.default_rng(7)
    one = descriptors(rng, 1500)
    places = rng.permutation(1500)
    other = seen_again(rng, one, 8)[places]
    found = {(int(row), int(places[column])) for row, column in match_descriptors(one, other)}
    assert len(found) > 1000
    assert all(row == column for row, column in found)
    shuffled = rng.permutation(1500)
    again = {(int(shuffled[row]), int(places[column])) for row, column in match_descriptors(one[shuffled], other)}
    assert again == found


def test_sides_are_equal() -> None:
    rng = np.random.default_rng(8)
    one, other = descriptors(rng, 400), descriptors(rng, 500)
    other[:300] = seen_again(rng, one[:300], 10)
    forth = {(int(row), int(column)) for row, column in match_descriptors(one, other)}
    back = {(int(column), int(row)) for row, column in match_descriptors(other, one)}
    assert forth == back
    assert forth


def test_what_has_no_features_has_no_matches() -> None:
    none, some = np.zeros((0, 128), np.float32), descriptors(np.random.default_rng(1), 3)
    for one, other in [(none, some), (some, none), (none, none)]:
        assert match_descriptors(one, other).shape == (0, 2)
