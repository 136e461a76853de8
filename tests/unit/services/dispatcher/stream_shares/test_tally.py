"""Counts of a stream by tenant: what is deleted of somebody is little more than what has to be."""

from __future__ import annotations

import pytest

from contracts.limits import KIB, MIB
from services.dispatcher.stream_shares.tally import Tally


@pytest.mark.parametrize(("messages", "surplus_bytes"), [(16, 1), (896, 512 * KIB), (20_000, 8 * MIB)])
def test_little_more_is_deleted_than_the_surplus(messages: int, surplus_bytes: int) -> None:
    tally = Tally(8 * MIB)
    for number in range(1, messages + 1):
        tally.add(number, "small", 8 * KIB)
    first, last, deleted = tally.oldest("small", surplus_bytes)
    assert first == 1
    assert last == deleted // (8 * KIB) < messages
    assert surplus_bytes <= deleted <= 2 * surplus_bytes + 64 * KIB


def test_the_counts_of_a_full_stream_take_few_parts() -> None:
    tally = Tally(8 * MIB)
    for number in range(1, 200_001):
        tally.add(number, "large", 40 * KIB)
    assert sum(len(parts) for parts in tally._parts.values()) < 1200
    tally.forget(200_001, "large")
    assert tally.used() == {}
