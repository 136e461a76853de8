"""Turns of tenants whose events are planned: order within a tenant, nobody behind a large event, no event forgotten."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator

from contracts.audit import SYSTEM
from contracts.limits import MIB
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.planning_turns import PIECE_DELIVERIES, PlanningTurns


class Plans:
    """Events with a number of deliveries, and what was planned of them, in order."""

    def __init__(self) -> None:
        self.deliveries: dict[int, int] = {}
        self.planned: list[int] = []
        self.turns = PlanningTurns(self._planning)

    def put(self, sequence: int, tenant: str, deliveries: int) -> None:
        self.deliveries[sequence] = deliveries
        self.turns.put(StoredEvent(sequence, f"saccade.evt.{tenant}.job.job_{sequence}.submitted", b"{}"))

    def _planning(self, stored: StoredEvent) -> Iterator[None]:
        left = self.deliveries[stored.sequence]
        while left > PIECE_DELIVERIES:
            self.planned += [stored.sequence] * PIECE_DELIVERIES
            left -= PIECE_DELIVERIES
            yield
        self.planned += [stored.sequence] * left


def test_a_small_event_does_not_wait_for_the_end_of_a_large_one() -> None:
    plans = Plans()
    plans.put(1, "hostile", 100)
    plans.turns.step()
    plans.put(2, "quiet", 1)
    assert plans.turns.planned(2) == 0
    for _ in range(2):
        plans.turns.step()
    assert 2 in plans.planned
    assert len(plans.planned) < 4 * PIECE_DELIVERIES
    assert plans.turns.planned(2) == 0, "the large event is not planned to its end"
    while plans.turns:
        plans.turns.step()
    assert plans.turns.planned(2) == 2


def test_small_events_are_planned_beside_a_piece_of_a_large_one() -> None:
    plans = Plans()
    plans.put(1, "hostile", 100)
    for sequence in range(2, 7):
        plans.put(sequence, f"tenant{sequence}", 1)
    assert plans.turns.step(), "others should find the loop idle before the next piece"
    assert plans.planned == [1] * PIECE_DELIVERIES + [2, 3, 4, 5, 6]
    plans.turns.step()
    assert plans.planned[-PIECE_DELIVERIES:] == [1] * PIECE_DELIVERIES
    while plans.turns:
        again = plans.turns.step()
    assert not again


def test_the_bytes_of_events_that_wait_are_bounded() -> None:
    plans = Plans()
    plans.deliveries |= {1: 2 * PIECE_DELIVERIES, 2: 1}
    for sequence, size in ((1, 15), (2, 2)):
        assert plans.turns.has_room
        subject = f"saccade.evt.acme.job.job_{sequence}.submitted"
        plans.turns.put(StoredEvent(sequence, subject, b"x" * size * MIB))
    assert not plans.turns.has_room
    plans.turns.step()
    plans.turns.step()
    assert plans.turns.has_room, "the large one is planned"


def finished(plans: Plans) -> set[int]:
    return {sequence for sequence, count in plans.deliveries.items() if plans.planned.count(sequence) == count}


def test_an_erasure_stands_between_what_is_before_and_behind_it() -> None:
    plans = Plans()
    plans.put(1, "acme", 30)
    plans.put(2, SYSTEM, 1)
    plans.put(3, "acme", 1)
    plans.put(4, "other", 1)
    assert plans.planned == [], "nothing is planned at once: thousands of events may stand before an erasure"
    while plans.turns:
        assert plans.turns.planned(4) == next((n - 1 for n in range(1, 5) if n not in finished(plans)), 4)
        plans.turns.step()
    assert plans.planned == [1] * 30 + [2, 3, 4]
    assert plans.turns.planned(4) == 4


def test_every_event_is_planned_once_and_in_the_order_of_its_tenant() -> None:
    seed = random.randrange(2**32)
    rng, plans, tenants = random.Random(seed), Plans(), {}
    for sequence in range(1, 300):
        tenants[sequence] = rng.choice(("a", "b", "c"))
        plans.put(sequence, tenants[sequence], rng.choice((0, 0, 1, 3, PIECE_DELIVERIES, 45)))
        before = plans.turns.planned(sequence)
        assert all(plans.planned.count(one) == plans.deliveries[one] for one in range(1, before + 1)), seed
        for _ in range(rng.randrange(3)):
            plans.turns.step()
    while plans.turns:
        plans.turns.step()
    by_tenant: defaultdict[str, list[int]] = defaultdict(list)
    for sequence in plans.planned:
        by_tenant[tenants[sequence]].append(sequence)
    assert all(found == sorted(found) for found in by_tenant.values()), seed
    assert all(plans.planned.count(one) == count for one, count in plans.deliveries.items()), seed
    assert plans.turns.planned(299) == 299


def test_an_event_may_go_before_those_of_other_tenants_but_not_before_its_own() -> None:
    plans = Plans()
    plans.put(1, "hostile", 100)
    plans.turns.step()
    plans.put(2, "quiet", 1)
    plans.turns.step_of("quiet")
    assert plans.planned[-1] == 2
    assert len(plans.turns) == 1
    plans.put(3, "hostile", 1)
    plans.turns.step_of("hostile")
    assert 3 not in plans.planned, "an event of its tenant is before it"
    plans.turns.step_of("nobody")
    plans.put(4, SYSTEM, 0)
    plans.put(5, "quiet", 1)
    plans.turns.step_of("quiet")
    assert 5 not in plans.planned, "an erasure is before it"
    while plans.turns or len(plans.turns):
        plans.turns.step()
    assert plans.turns.planned(5) == 5
    assert plans.planned[-1] == 5
