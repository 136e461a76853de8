"""Reservations while the dispatcher's own events have not come back yet."""

from __future__ import annotations

from datetime import timedelta

import pytest

from contracts.budget import BudgetLimits, periods_of
from contracts.events.base import EventData, decode, encode
from contracts.events.job import Cost, JobInterrupted, JobRetrying, JobStarted, JobStarting, JobSubmitted, JobSucceeded
from contracts.job import Job
from kit.bus.event_store import StoredEvent
from services.dispatcher.budgets.on_budget import on_stored
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from tests.harness.rules.rule_events import EPOCH

pytestmark = pytest.mark.anyio


def starting(run_id: str) -> JobStarting:
    return JobStarting(attempt=1, run_id=run_id, executor="modal", device="L4", usd_per_s=0.01, reserved_usd=4.0)


def at_sequence(job_id: str, sequence: int) -> Job:
    submitted = JobSubmitted(
        workload="probe", workload_version="1", params={}, inputs={}, estimated_usd=4.0, deadline=EPOCH
    )
    return Job(id=job_id, tenant="acme", submitted=submitted, created_at=EPOCH, sequence=sequence)


async def test_the_end_of_the_attempt_before_is_folded_before_the_next_one_is_reserved() -> None:
    waiting: list[tuple[int, EventData]] = []

    async def wait_for(sequence: int, _: float) -> bool:
        while waiting and waiting[0][0] <= sequence:
            come_back()
        return True

    def come_back() -> None:
        message = encode(waiting.pop(0)[1], tenant="acme", subject_id="job_a", source="/test", time=EPOCH)
        budgets.on_job(decode(message.body))

    budgets = TenantBudgets(BudgetLimits(daily_usd=10.0), lambda: EPOCH, wait_for)
    error = {"code": "worker_not_started", "message": "m", "hint": "h"}
    cost = Cost(device="L4", seconds=300, usd=3.0)
    later = EPOCH + timedelta(hours=1)
    waiting += [
        (2, starting("run_1")),
        (3, JobStarted(attempt=1, run_id="run_1", device="L4", worker="worker_1", billed_since=EPOCH)),
        (4, JobInterrupted.model_validate(
            {"attempt": 1, "run_id": "run_1", "failure": "lost", "error": error, "cost": cost})),
        (5, JobRetrying(attempt=2, after="asked", delay_s=0.0, not_before=EPOCH, deadline=later)),
    ]  # fmt: skip
    assert await budgets.reserve(at_sequence("job_a", 5), starting("run_2")) is None
    while waiting:
        come_back()
    usage = budgets.accounts["acme"].usage(periods_of(EPOCH)[0], EPOCH)
    assert (usage.spent_usd, usage.reserved_usd) == (3.0, 4.0)
    assert await budgets.reserve(at_sequence("job_b", 5), starting("run_3")) is not None, "3 + 4 + 4 > 10"


def test_a_workers_clock_moves_no_money_to_another_month() -> None:
    budgets = TenantBudgets(BudgetLimits(monthly_usd=10.0), lambda: EPOCH)
    cost = Cost(device="L4", seconds=300, usd=3.0)
    succeeded = JobSucceeded(attempt=1, run_id="run_1", result={}, manifest_key="k", duration_s=300, cost=cost)
    wrong = EPOCH - timedelta(days=45)
    for sequence, (data, time) in enumerate([(starting("run_1"), EPOCH), (succeeded, wrong)], 1):
        message = encode(data, tenant="acme", subject_id="job_a", source="/test", time=time)
        stored = StoredEvent(sequence, message.subject, message.body, timestamp=EPOCH.isoformat())
        on_stored(budgets, stored, decode(stored.body))
    assert budgets.accounts["acme"].by_day == {EPOCH.date(): 3.0}
