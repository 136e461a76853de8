"""Prices and rungs: the account's own prices over the dated table, free on the operator's own machine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import Cost, JobSubmitted
from contracts.gpu_ladder import GPUS
from contracts.job import Job
from contracts.prices import price_usd_per_s
from services.dispatcher.attempts.failure_messages import next_gpu_exceeds_cap
from services.dispatcher.costs.attempt_cost import is_affordable, remaining_usd
from services.dispatcher.costs.price_list import PriceList

NOW = datetime(2026, 7, 1, tzinfo=UTC)
PRICES = PriceList("modal")
DEVICES = ("T4", "A10", "H100")


def job(rung: int = 0, cap_usd: float | None = None, *costs: Cost) -> Job:
    submitted = JobSubmitted(
        workload="echo", workload_version="1", inputs={}, params={}, deadline=NOW, max_cost_usd=cap_usd
    )
    paid = {f"run_{number}": cost for number, cost in enumerate(costs)}
    return Job(id="job_1", tenant="acme", submitted=submitted, created_at=NOW, rung=rung, costs=paid)


def test_the_accounts_own_prices_replace_those_of_the_table() -> None:
    prices = PriceList("modal")
    assert prices.usd_per_s("T4") == price_usd_per_s("T4")
    prices.update({"T4": 0.0001})
    assert prices.usd_per_s("T4") == 0.0001
    assert prices.usd_per_s("A10") == price_usd_per_s("A10"), "a device that the account does not list"
    prices.update({})
    assert prices.usd_per_s("T4") == price_usd_per_s("T4")


def test_a_device_without_a_price_is_an_error() -> None:
    with pytest.raises(SaccadeError, match="no price"):
        PriceList("modal").usd_per_s("T5")


def test_the_operators_own_machine_is_free() -> None:
    prices = PriceList("local")
    prices.update({"cpu": 1.0})
    assert prices.usd_per_s("cpu") == 0.0


def test_a_ladder_ends() -> None:
    rungs = [PRICES.next_affordable_rung(job(number), DEVICES) for number in range(4)]
    assert [rung and rung.device for rung in rungs] == ["A10", "H100", None, None]
    assert PRICES.rung(DEVICES, 7).device == "H100", "the ladder has become shorter"
    assert PRICES.next_affordable_rung(job(), ("A100-40GB",)) is None, "a GPU that the user chose is the only rung"


def test_a_rung_that_exceeds_the_cap_is_named_in_the_hint() -> None:
    capped = job(0, 0.0002)
    too_expensive = PRICES.next_rung(capped, DEVICES)
    assert too_expensive
    assert (too_expensive.device, PRICES.next_affordable_rung(capped, DEVICES)) == ("A10", None)
    worker_error = SaccadeError(ErrorCode.OUT_OF_MEMORY, "The worker's message.").body()
    error = next_gpu_exceeds_cap(worker_error, too_expensive.device, capped)
    assert (error.code, error.message) == (worker_error.code, worker_error.message)
    assert "A10" in error.hint
    assert "max_cost_usd" in error.hint


_COSTS = st.lists(st.builds(Cost, device=st.just("T4"), seconds=st.floats(0, 100), startup_s=st.floats(0, 60),
                            usd=st.floats(0, 0.05)), max_size=4)  # fmt: skip


@given(st.integers(0, 7), st.floats(0, 0.2), _COSTS)
def test_no_rung_is_returned_whose_start_and_first_second_would_exceed_the_cap(
    rung: int, cap_usd: float, costs: list[Cost]
) -> None:
    capped = job(rung, cap_usd, *costs)
    spent = sum(cost.usd for cost in costs)
    start_s = min((cost.startup_s for cost in costs), default=0.0)
    found = PRICES.next_affordable_rung(capped, GPUS)
    if found:
        assert spent + found.usd_per_s * (start_s + 1) <= cap_usd + 1e-5
    elif rung + 1 < len(GPUS):
        assert spent + price_usd_per_s(GPUS[rung + 1]) * (start_s + 1) >= cap_usd - 1e-5
    assert 0 <= (remaining_usd(capped) or 0.0) <= cap_usd
    assert is_affordable(job(rung), 1e9), "without a cap every device is affordable"
