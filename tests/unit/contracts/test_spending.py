"""Account of a tenant: whatever order the events of its jobs come in, it equals a recount from the jobs themselves."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from contracts.budget import BudgetLimits, Period, periods_of
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope, EventData
from contracts.events.job import (
    PIPELINE,
    Cost,
    JobFailed,
    JobInterrupted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
)
from contracts.ids import new_id, pipeline_id_of, stage_job_id
from contracts.job import Job, State, fold, retry
from contracts.spending import SPENDING_EVENTS, Account, AccountedAttempt

#: So late that a few hours cross the end of a day and of a month.
BEGIN = datetime(2026, 7, 31, 20, tzinfo=UTC)
ERROR = SaccadeError(ErrorCode.WORKER_LOST).body()
USD_PER_S = 0.001
MOVES = ["starting", "started", "interrupted", "again", "succeeded", "failed", "retrying", "stale"]


class RandomTenant:
    """Jobs of one tenant with random events under the rules of their publishers, and their recount."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.account = Account()
        pipeline_id = new_id("job")
        self.ids = [
            new_id("job"),
            new_id("job"),
            pipeline_id,
            stage_job_id(pipeline_id, "one", 0),
            stage_job_id(pipeline_id, "one", 1),
        ]
        self.pipeline_id = pipeline_id
        self.jobs: dict[str, Job] = {}
        self.reserved: dict[str, float] = {}
        #: Day and amount of each settled run of a job with workers.
        self.settled: dict[tuple[str, str], tuple[date, float]] = {}
        self.runs = 0
        for job_id in self.ids:
            self.publish(job_id, JobSubmitted(workload="w", workload_version="1", inputs={}, params={}, deadline=BEGIN))

    def publish(self, job_id: str, data: EventData) -> None:
        sequence = sum(job.sequence for job in self.jobs.values()) + 1
        envelope = Envelope(
            id=f"evt{sequence}",
            source="/test",
            type=data.type,
            subject=job_id,
            time=self.now,
            tenant="acme",
            data=data.model_dump(mode="json"),
        )
        before = self.jobs.get(job_id)
        job = self.jobs[job_id] = fold(before, envelope, (before.sequence if before else 0) + 1)  # type: ignore[assignment]
        if before and job.costs != before.costs and job.executor != PIPELINE:
            self.settled |= {
                (job_id, run_id): (self.now.date(), cost.usd)
                for run_id, cost in job.costs.items()
                if before.costs.get(run_id) != cost
            }
        if data.type in SPENDING_EVENTS:
            self.account.fold(envelope)

    def move(self, job_id: str, name: str, number: int) -> None:
        """Publish an event if the rules allow it in the current state; ``stale`` is one of an earlier run."""
        job = self.jobs[job_id]
        run: dict[str, Any] = {"attempt": job.attempt, "run_id": job.run_id or "none"}
        cost = Cost(device="T4", seconds=number, usd=number / 7)
        pipeline = job_id == self.pipeline_id
        if pipeline and any(self._runs(stage_id) for stage_id in self.ids[3:]):
            return
        if pipeline_id_of(job_id) and self.jobs[self.pipeline_id].state is not State.RUNNING:
            return
        match name, job.state:
            case "starting", State.SUBMITTED | State.RETRYING:
                self.runs += 1
                run_id = f"run{self.runs}"
                self.reserved[run_id] = number / 3
                self.publish(
                    job_id,
                    JobStarting(
                        attempt=job.attempt + 1,
                        run_id=run_id,
                        executor=PIPELINE if pipeline else "modal",
                        device=PIPELINE if pipeline else "T4",
                        usd_per_s=None if pipeline else USD_PER_S,
                        reserved_usd=number / 3,
                    ),
                )
            case "started", State.STARTING:
                since = None if pipeline or number % 2 else self.now - timedelta(seconds=number)
                self.publish(job_id, JobStarted(**run, device="T4", worker="w", billed_since=since))
            case "interrupted", State.STARTING | State.RUNNING:
                paid = cost if job.state is State.RUNNING else None
                self.publish(job_id, JobInterrupted(**run, failure="lost", error=ERROR, cost=paid))
            case ("succeeded", State.RUNNING | State.INTERRUPTED):
                self.publish(job_id, JobSucceeded(**run, result={}, manifest_key="k", duration_s=1, cost=cost))
            case "again", State.INTERRUPTED | State.FAILED | State.SUCCEEDED:
                if pipeline or job.state is not State.INTERRUPTED:
                    self.publish(job_id, JobInterrupted(**run, failure="lost", error=ERROR, cost=cost))
            case "failed", State.SUBMITTED | State.INTERRUPTED:
                self.publish(job_id, JobFailed(attempt=job.attempt, failure="lost", error=ERROR))
            case "retrying", State.INTERRUPTED | State.FAILED if not pipeline:
                after = None if job.state is State.FAILED else "lost"
                self.publish(job_id, retry(job, after=after, delay_s=0, now=self.now, deadline_s=9))  # type: ignore[arg-type]
            case "stale", _:
                run["run_id"] = "run0"
                self.publish(job_id, JobInterrupted(**run, failure="lost", error=ERROR, cost=cost))

    def _runs(self, job_id: str) -> bool:
        return self.jobs[job_id].state in (State.STARTING, State.RUNNING)

    # ---- recount

    def metered_usd(self, job_id: str) -> float:
        job = self.jobs[job_id]
        if job.state is not State.RUNNING or job_id == self.pipeline_id:
            return 0.0
        since = job.billed_since or job.started_at
        assert since
        return (self.now - since).total_seconds() * USD_PER_S

    def held_usd(self, job_id: str) -> float:
        run_id = self.jobs[job_id].run_id
        return max(self.reserved[run_id], self.metered_usd(job_id)) if run_id and self._runs(job_id) else 0.0

    def spent_usd(self, period: Period) -> float:
        settled = sum(usd for day, usd in self.settled.values() if day >= period.began)
        return settled + sum(map(self.metered_usd, self.ids))

    def reserved_usd(self) -> float:
        stages = self.ids[3:]
        held = sum(map(self.held_usd, self.ids[:2]))
        stages_held = sum(map(self.held_usd, stages))
        if self._runs(self.pipeline_id):
            used = sum(usd for (job_id, _), (_, usd) in self.settled.items() if job_id in stages)
            stages_held = max(self.reserved[self.jobs[self.pipeline_id].run_id or ""] - used, stages_held)
        return held + stages_held - sum(map(self.metered_usd, self.ids))


MOMENTS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(MOVES), st.integers(1, 40), st.integers(0, 3000)), max_size=80
)


@settings(max_examples=200)
@given(MOMENTS)
def test_the_account_equals_a_recount(moments: list[tuple[int, str, int, int]]) -> None:
    tenant = RandomTenant()
    for which, name, number, passed_s in moments:
        tenant.now += timedelta(seconds=passed_s)
        tenant.move(tenant.ids[which], name, number)
        for period in periods_of(tenant.now):
            usage = tenant.account.usage(period, tenant.now)
            assert usage.spent_usd == pytest.approx(tenant.spent_usd(period), abs=1e-4)
            assert usage.reserved_usd == pytest.approx(max(0.0, tenant.reserved_usd()), abs=1e-4)


@settings(max_examples=50)
@given(MOMENTS)
def test_an_account_survives_being_stored(moments: list[tuple[int, str, int, int]]) -> None:
    tenant, stored = RandomTenant(), TypeAdapter(Account)
    for which, name, number, passed_s in moments:
        tenant.now += timedelta(seconds=passed_s)
        tenant.move(tenant.ids[which], name, number)
    assert stored.validate_json(stored.dump_json(tenant.account)) == tenant.account


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.floats(0, 0.4), st.booleans(), st.integers(0, 5)), max_size=60),
    st.floats(0.0, 2.0),
)
def test_nothing_is_admitted_beyond_a_limit(asks: list[tuple[int, float, bool, int]], limit: float) -> None:
    """Attempts come and end, at any cost up to their reservation: what is committed never exceeds the limit."""
    account, now, limits = Account(), BEGIN, BudgetLimits(daily_usd=limit)
    (day, _) = periods_of(now)
    for number, (which, amount, ends, cents) in enumerate(asks):
        job_id, before = f"job{which}", account.usage(day, now).committed_usd
        if ends and (attempt := account.attempts.get(job_id)):
            cost = Cost(device="T4", seconds=1, usd=min(attempt.reserved_usd, cents / 100))
            data = JobSucceeded(attempt=1, run_id=attempt.run_id, result={}, manifest_key="k", duration_s=1, cost=cost)
            account.fold(
                Envelope(
                    id="e", source="/t", type=data.type, subject=job_id, time=now, tenant="t", data=data.model_dump()
                )
            )
        elif job_id not in account.attempts:
            refused = account.admit(job_id, AccountedAttempt(f"run{number}", amount), limits, now)
            if refused:
                assert round(before + amount, 6) > limit
                assert account.usage(day, now).committed_usd == before
        assert account.usage(day, now).committed_usd <= limit + 1e-6


def test_of_a_pipeline_the_reservation_is_for_its_stages() -> None:
    account, limits = Account(), BudgetLimits(monthly_usd=1.0)
    pipeline_id = new_id("job")
    first, second = (stage_job_id(pipeline_id, "one", shard) for shard in (0, 1))
    assert account.admit(pipeline_id, AccountedAttempt("p", 1.0, is_pipeline=True), limits, BEGIN) is None
    assert account.admit(first, AccountedAttempt("a", 0.5), limits, BEGIN) is None
    assert account.admit(second, AccountedAttempt("b", 0.5), limits, BEGIN) is None
    other = account.admit(new_id("job"), AccountedAttempt("c", 0.01), limits, BEGIN)
    assert other
    assert (other.period.kind, other.usage.reserved_usd) == ("month", 1.0)
    assert account.admit(new_id("job"), AccountedAttempt("free", 0.0), limits, BEGIN) is None


def test_a_running_attempt_is_stopped_only_beyond_its_own_reservation() -> None:
    account, limits = Account(), BudgetLimits(daily_usd=1.0)
    for job_id, reserved_usd in (("within", 0.9), ("beyond", 0.05)):
        assert account.admit(job_id, AccountedAttempt(job_id, reserved_usd, USD_PER_S), limits, BEGIN) is None
        account.attempts[job_id].billed_since = BEGIN
    later = BEGIN + timedelta(seconds=90)
    assert account.excess("beyond", limits, later) is None, "0.99 of 1 USD"
    later = BEGIN + timedelta(seconds=101)
    assert account.excess("within", limits, later) is None
    excess = account.excess("beyond", limits, later)
    assert excess
    assert "stopped" in excess.error().message
    assert account.excess("beyond", BudgetLimits(), later) is None


def test_a_day_and_a_month_end() -> None:
    account, limits = Account({date(2026, 7, 31): 1.0}), BudgetLimits(daily_usd=1.0, monthly_usd=1.5)
    ask = AccountedAttempt("run", 0.6)
    refused = account.admit("job", ask, limits, datetime(2026, 7, 31, 23, 59, 59, tzinfo=UTC))
    assert refused
    assert refused.period.ends_at == datetime(2026, 8, 1, tzinfo=UTC)
    assert account.admit("job", ask, limits, datetime(2026, 8, 1, tzinfo=UTC)) is None
    december = Period("month", date(2026, 12, 1))
    assert december.ends_at == datetime(2027, 1, 1, tzinfo=UTC)
    east = datetime.fromisoformat("2026-08-01T01:30:00+02:00")
    assert periods_of(east) == (Period("day", date(2026, 7, 31)), Period("month", date(2026, 7, 1)))


def test_spending_of_two_months_is_kept() -> None:
    account = Account()
    for number in range(200):
        account._add(date(2026, 1, 1) + timedelta(days=number), 1.0)
    (_, month) = periods_of(datetime(2026, 7, 19, tzinfo=UTC))
    assert account.usage(month, BEGIN).spent_usd == 19.0
    assert len(account.by_day) <= 62


@pytest.mark.parametrize("wrong_s", [-7200.0, 0.0, 7200.0])
def test_an_attempt_is_metered_by_the_servers_stamp_when_its_workers_clock_is_wrong(wrong_s: float) -> None:
    """A clock that was two hours behind was metered as two hours of a device within a second."""
    account, run = Account(), {"attempt": 1, "run_id": "run_1"}
    wrong, began = timedelta(seconds=wrong_s), BEGIN + timedelta(seconds=12)
    starting = JobStarting(**run, executor="modal", device="H100", usd_per_s=USD_PER_S, reserved_usd=0.05)
    started = JobStarted(**run, device="H100", worker="w", billed_since=began + wrong)
    steps: list[tuple[EventData, float, timedelta]] = [(starting, 10.0, timedelta()), (started, 15.0, wrong)]
    for data, at_s, error in steps:
        stored_at = BEGIN + timedelta(seconds=at_s)
        account.fold(_event(data, stored_at + error), stored_at)
    assert account.attempts["job_1"].billed_since == began
    now = BEGIN + timedelta(seconds=22)
    assert account.usage(periods_of(now)[0], now).spent_usd == pytest.approx(10 * USD_PER_S)
    assert account.excess("job_1", BudgetLimits(daily_usd=0.02), now) is None


def test_metered_time_does_not_begin_before_the_attempt() -> None:
    """The clock jumped between the beginning of the billed time and the event."""
    account, run = Account(), {"attempt": 1, "run_id": "run_1"}
    starting_at, stored_at = BEGIN + timedelta(seconds=10), BEGIN + timedelta(seconds=15)
    account.fold(_event(JobStarting(**run, executor="modal", device="T4", reserved_usd=0.05), starting_at), starting_at)
    started = JobStarted(**run, device="T4", worker="w", billed_since=BEGIN + timedelta(seconds=12))
    account.fold(_event(started, stored_at + timedelta(hours=2)), stored_at)
    assert account.attempts["job_1"].billed_since == starting_at


def _event(data: EventData, at: datetime) -> Envelope:
    return Envelope(
        id="evt", source="/test", type=data.type, subject="job_1", time=at, tenant="acme",
        data=data.model_dump(mode="json"),
    )  # fmt: skip
