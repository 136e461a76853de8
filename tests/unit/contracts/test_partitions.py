"""Slots of tenants, and the slots that a server says it serves."""

from __future__ import annotations

from collections import Counter

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.partitions import SLOTS, Partition, slot_of


def test_slots_are_those_by_which_stored_events_were_split() -> None:
    """A failure means that tenants would be looked for in cells that do not have their events."""
    found = {tenant: slot_of(tenant) for tenant in ("local", "acme", "rival", "tenant-1", "tenant-2", "a" * 40)}
    assert found == {"local": 54, "acme": 23, "rival": 53, "tenant-1": 63, "tenant-2": 48, "a" * 40: 62}
    assert SLOTS == 64


def test_tenants_are_spread_evenly() -> None:
    per_slot = Counter(slot_of(f"tenant-{number}") for number in range(64_000))
    assert len(per_slot) == SLOTS
    # Five standard deviations of a thousand.
    assert min(per_slot.values()) > 840
    assert max(per_slot.values()) < 1160


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("", range(64)),
        (" ", range(64)),
        ("0-63/64", range(64)),
        ("0-31/64", range(32)),
        ("63/64", [63]),
        (" 0-2, 40 ,7-8 / 64 ", [0, 1, 2, 7, 8, 40]),
        ("5-5,5/64", [5]),
    ],
)
def test_a_partition_is_a_list_of_ranges_of_slots(text: str, slots: range | list[int]) -> None:
    partition = Partition.parse(text)
    assert partition.slots == frozenset(slots)
    assert partition.is_whole == (len(slots) == 64)


@pytest.mark.parametrize(
    "text", ["0-31", "0-31/32", "/64", "31-0/64", "0-64/64", "0-31,/64", "a/64", "-1/64", "0-1-2/64"]
)
def test_what_is_no_partition_is_refused_and_not_read_as_another(text: str) -> None:
    with pytest.raises(ValueError, match="0-31/64"):
        Partition.parse(text)


def test_every_tenant_is_served_by_one_of_two_halves() -> None:
    lower, upper = Partition.parse("0-31/64"), Partition.parse("32-63/64")
    tenants = [f"tenant-{number}" for number in range(200)]
    assert all(lower.serves(tenant) != upper.serves(tenant) for tenant in tenants)
    assert all(Partition().serves(tenant) for tenant in tenants)


def test_a_tenant_of_another_partition_is_refused_with_its_slot() -> None:
    tenant = next(name for number in range(99) if slot_of(name := f"tenant-{number}") >= 32)
    Partition.parse("32-63/64").require(tenant)
    with pytest.raises(SaccadeError) as refused:
        Partition.parse("0-31/64").require(tenant)
    assert refused.value.code is ErrorCode.WRONG_PARTITION
    assert (refused.value.kind.status, refused.value.kind.retryable) == (421, False)
    assert str(slot_of(tenant)) in refused.value.message
