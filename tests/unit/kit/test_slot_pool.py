"""The pool of slots: what one tenant gets alone, and beside others."""

from __future__ import annotations

import random

from kit.slot_pool import SlotPool


def test_one_tenant_alone_gets_its_number_and_others_still_find_slots() -> None:
    pool = SlotPool[str](256)
    held = {}
    for tenant in ("first", "second", "third"):
        held[tenant] = 0
        while pool.is_open(tenant):
            pool.take(tenant)
            held[tenant] += 1
    assert held == {"first": 256, "second": 128, "third": 64}


def test_who_waits_is_woken_in_turns_of_tenants_and_once() -> None:
    pool = SlotPool[str](2)
    for tenant in ("a", "a", "b"):
        pool.take(tenant)
    for tenant, name in (("a", "a1"), ("a", "a1"), ("a", "a2"), ("b", "b1"), ("c", "c1")):
        pool.wait(tenant, name)
    assert [pool.next_waiting(), pool.next_waiting()] == ["c1", None], "a holds two and b one, and one is free"
    pool.release("b")
    assert [pool.next_waiting(), pool.next_waiting()] == ["b1", None]
    pool.release("a")
    assert [pool.next_waiting(), pool.next_waiting(), pool.next_waiting()] == ["a1", "a2", None]


def test_who_has_left_is_woken_no_more() -> None:
    pool = SlotPool[str](1)
    for tenant in ("a", "b"):
        pool.take(tenant)
    for tenant, name in (("a", "a1"), ("a", "a2"), ("c", "c1")):
        pool.wait(tenant, name)
    for tenant, name in (("a", "a1"), ("c", "c1"), ("c", "c1"), ("d", "d1")):
        pool.leave(tenant, name)
    pool.release("a")
    assert [pool.next_waiting(), pool.next_waiting()] == ["a2", None]


def test_no_slot_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    pool, held = SlotPool[str](8), {f"tenant{number}": 0 for number in range(12)}
    for _ in range(5000):
        tenant = chance.choice(list(held))
        if held[tenant] and chance.random() < 0.5:
            pool.release(tenant)
            held[tenant] -= 1
        elif pool.is_open(tenant):
            pool.take(tenant)
            held[tenant] += 1
        assert sum(held.values()) <= 16
        free = 16 - sum(held.values())
        assert all(pool.is_open(name) == (count < free) for name, count in held.items())
        assert max(held.values()) <= 8, "nobody holds more than alone"
