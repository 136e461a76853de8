"""Settlement of costs: the formula, and that each run counts once."""

from __future__ import annotations

import pytest

from contracts.cost_settlement import record_settled, settled_cost
from contracts.events.job import Cost


def test_the_billed_time_includes_start_up() -> None:
    cost = settled_cost("T4", 0.000164, seconds=100.0004, startup_s=7.00049)
    assert cost == Cost(device="T4", seconds=100.0, startup_s=7.0, usd=0.0164)
    assert settled_cost("local", 0.0, 100.0, 0.0).usd == 0.0
    assert settled_cost("H100", 0.001097, 3600.0, 0.0).usd == pytest.approx(3.9492)


def test_a_run_counts_once() -> None:
    first, second = (settled_cost("T4", 0.001, seconds, 0.0) for seconds in (1.0, 2.0))
    costs = record_settled({}, "run_a", first)
    assert record_settled(costs, "run_a", second) == {"run_a": second}
    assert record_settled(costs, "run_b", second) == {"run_a": first, "run_b": second}
    assert record_settled(costs, "run_b", None) == costs
