"""The ladder: which rung follows which failure, and that none is tried which the job may not cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import Cost, FailureClass, JobSubmitted
from contracts.gpu_ladder import GPUS
from contracts.job import Job
from contracts.prices import price_usd_per_s
from services.dispatcher.costs.cost import is_affordable, left_usd
from services.dispatcher.costs.price_list import PriceList
from services.dispatcher.lifecycle.failure_messages import too_dear
from services.dispatcher.lifecycle.retry import Again, Attempt, Backoff, Fail, next_step
from services.dispatcher.scheduling.gpu_ladder import above, following, rung_of

NOW = datetime(2026, 7, 1, tzinfo=UTC)
PRICES = PriceList("modal")
DEVICES = ("T4", "A10", "H100")
SAID = SaccadeError(ErrorCode.OUT_OF_MEMORY, "As the worker said it.").body()


def job(rung: int = 0, cap_usd: float | None = None, *costs: Cost) -> Job:
    submitted = JobSubmitted(
        workload="echo", workload_version="1", inputs={}, params={}, deadline=NOW, max_cost_usd=cap_usd
    )
    paid = {f"run_{number}": one for number, one in enumerate(costs)}
    return Job(id="job_1", tenant="acme", submitted=submitted, created_at=NOW, rung=rung, costs=paid)


def attempt(failure: FailureClass, rung: int, rung_above: int | None, **more: float) -> Attempt:
    ended = Attempt(failure, SAID, 1, 4, NOW + timedelta(hours=1), rung, rung_above, has_rungs=True)
    return replace(ended, **more)


def test_a_ladder_ends() -> None:
    rungs = [above(job(number), PRICES, DEVICES) for number in range(4)]
    assert [rung and rung.device for rung in rungs] == ["A10", "H100", None, None]
    assert rung_of(PRICES, DEVICES, 7).device == "H100", "the ladder has become shorter"
    assert above(job(), PRICES, ("A100-40GB",)) is None, "a GPU that was asked for is the only rung"


@pytest.mark.parametrize(
    ("failure", "rung_above", "rung"),
    [
        ("out_of_memory", 2, 2),
        ("no_gpu", 2, 2),
        ("lost", 2, 1),
        ("preempted", 2, 1),
        ("not_started", 2, 1),
        ("throttled", 2, 1),
        ("no_gpu", None, 1),
    ],
)
def test_each_failure_has_its_rung(failure: FailureClass, rung_above: int | None, rung: int) -> None:
    step = next_step(attempt(failure, 1, rung_above), NOW, Backoff(), 0.5)
    assert isinstance(step, Again)
    assert step.rung == rung
    assert (step.delay_s == 0) is (failure == "no_gpu")


def test_memory_that_no_device_has_ends_the_job_in_the_worker_s_own_words() -> None:
    step = next_step(attempt("out_of_memory", 2, None), NOW, Backoff(), 0.5)
    assert step == Fail("out_of_memory", SAID)


@given(st.floats(0.1, 600), st.floats(0, 1, exclude_max=True))
def test_a_launch_is_tried_again_no_sooner_than_was_asked_for(asked_s: float, jitter: float) -> None:
    step = next_step(attempt("throttled", 0, None, retry_after_s=asked_s), NOW, Backoff(), jitter)
    assert isinstance(step, Again)
    assert asked_s <= step.delay_s <= 1.5 * asked_s


def test_a_rung_that_is_too_dear_is_named() -> None:
    capped = job(0, 0.0002)
    dear = following(capped, PRICES, DEVICES)
    assert dear
    assert (dear.device, above(capped, PRICES, DEVICES)) == ("A10", None)
    error = too_dear(SAID, dear.device, capped)
    assert (error.code, error.message) == (SAID.code, SAID.message)
    assert "A10" in error.hint
    assert "max_cost_usd" in error.hint


_COSTS = st.lists(st.builds(Cost, device=st.just("T4"), seconds=st.floats(0, 100), startup_s=st.floats(0, 60),
                            usd=st.floats(0, 0.05)), max_size=4)  # fmt: skip


@given(st.integers(0, 7), st.floats(0, 0.2), _COSTS)
def test_no_rung_is_given_whose_start_and_first_second_would_break_the_cap(
    rung: int, cap_usd: float, costs: list[Cost]
) -> None:
    one = job(rung, cap_usd, *costs)
    spent = sum(cost.usd for cost in costs)
    start_s = min((cost.startup_s for cost in costs), default=0.0)
    found = above(one, PRICES, GPUS)
    if found:
        assert spent + found.usd_per_s * (start_s + 1) <= cap_usd + 1e-5
    elif rung + 1 < len(GPUS):
        assert spent + price_usd_per_s(GPUS[rung + 1]) * (start_s + 1) >= cap_usd - 1e-5
    assert 0 <= (left_usd(one) or 0.0) <= cap_usd
    assert is_affordable(job(rung), 1e9), "without a cap nothing is too dear"
