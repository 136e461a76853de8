"""Turns of tenants: order, fairness, and work that fails."""

from __future__ import annotations

import pytest

from services.notifier.tenant_turns import TenantTurns


def test_each_tenant_gets_a_piece_in_turn_and_its_work_in_order() -> None:
    turns, done = TenantTurns[list[str]](), list[str]()
    for tenant, work in (("a", ["a1", "a1"]), ("a", ["a2"]), ("b", ["b1", "b1"])):
        turns.put(tenant, work)

    def piece(work: list[str]) -> bool:
        done.append(work.pop())
        return not work

    while turns:
        turns.step(piece)
    assert done == ["a1", "b1", "a1", "b1", "a2"]


def test_work_that_raises_is_over_and_what_is_behind_it_stays() -> None:
    turns = TenantTurns[str]()
    turns.put("a", "bad")
    turns.put("a", "good")

    def piece(work: str) -> bool:
        if work == "bad":
            raise ValueError(work)
        return True

    with pytest.raises(ValueError, match="bad"):
        turns.step(piece)
    assert list(turns) == list(turns.firsts()) == ["good"]
    assert turns.step(piece)
    assert (len(turns), turns.of("a")) == (0, None)
