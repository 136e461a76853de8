"""Liveness of an attempt, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.events.job import Cost, JobSubmitted
from contracts.job import Job, State
from contracts.workload import Compute
from services.dispatcher.attempts.liveness import Liveness, Observation, Timeouts, check_liveness
from services.dispatcher.executors.executor import CallState, CallStatus

NOW = datetime(2026, 7, 1, tzinfo=UTC)
COMPUTE = Compute(timeout_s=100, start_timeout_s=20)
TIMEOUTS = Timeouts(find_s=5, silent_s=30, reaction_s=2)
RUNNING = CallStatus(CallState.RUNNING)
ENDED = CallStatus(CallState.ENDED, 137, "killed", "lost")


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def job(state: State, **changes: Any) -> Job:
    submitted = JobSubmitted(
        workload="echo",
        workload_version="1",
        inputs={},
        params={},
        deadline=NOW + timedelta(hours=1),
        max_cost_usd=changes.pop("max_cost_usd", None),
    )
    attempt = Job(
        id="job_1",
        tenant="acme",
        submitted=submitted,
        created_at=ago(50),
        deadline=submitted.deadline,
        state=state,
        attempt=1,
        run_id="run_1",
        executor="modal",
        device="T4",
        starting_at=ago(10),
        started_at=ago(9) if state is State.RUNNING else None,
    )
    return replace(attempt, **changes)


T4_USD_PER_S = 0.000164

TABLE: list[tuple[str, Job, CallStatus | None, float, Liveness]] = [
    ("running", job(State.RUNNING), RUNNING, 1, Liveness.HEALTHY),
    ("starting", job(State.STARTING), RUNNING, 999, Liveness.HEALTHY),
    ("gone while running", job(State.RUNNING), ENDED, 0, Liveness.ENDED),
    ("gone while starting", job(State.STARTING), ENDED, 0, Liveness.ENDED),
    ("gone in time, polled late", job(State.RUNNING, started_at=ago(500)), ENDED, 500, Liveness.ENDED),
    ("cancelled", job(State.RUNNING, cancel_requested=True), RUNNING, 0, Liveness.CANCEL_REQUESTED),
    ("cancelled and gone", job(State.RUNNING, cancel_requested=True), ENDED, 0, Liveness.CANCEL_REQUESTED),
    ("cancelled before it was found", job(State.STARTING, cancel_requested=True), None, 0, Liveness.CANCEL_REQUESTED),
    ("just in time", job(State.RUNNING, started_at=ago(99.9)), RUNNING, 0, Liveness.HEALTHY),
    ("too long", job(State.RUNNING, started_at=ago(100)), RUNNING, 0, Liveness.TIMED_OUT),
    ("past the deadline", job(State.RUNNING, deadline=ago(0)), RUNNING, 0, Liveness.PAST_DEADLINE),
    ("starting past the deadline", job(State.STARTING, deadline=ago(1)), RUNNING, 0, Liveness.PAST_DEADLINE),
    ("slow to start", job(State.STARTING, starting_at=ago(19.9)), RUNNING, 0, Liveness.HEALTHY),
    ("too slow to start", job(State.STARTING, starting_at=ago(20)), RUNNING, 0, Liveness.NOT_STARTED),
    ("not found yet", job(State.STARTING, starting_at=ago(4.9)), None, 0, Liveness.HEALTHY),
    ("never found", job(State.STARTING, starting_at=ago(5)), None, 0, Liveness.NOT_STARTED),
    ("silent for less than the timeout", job(State.RUNNING), RUNNING, 29.9, Liveness.HEALTHY),
    ("silent", job(State.RUNNING), RUNNING, 30, Liveness.SILENT),
    ("silent and not found", job(State.RUNNING), None, 30, Liveness.SILENT),
    ("within its cap", job(State.RUNNING, max_cost_usd=12 * T4_USD_PER_S), RUNNING, 0, Liveness.HEALTHY),
    ("near its cap", job(State.RUNNING, max_cost_usd=10.9 * T4_USD_PER_S), RUNNING, 0, Liveness.COST_CAP),
    (
        "near its cap because of earlier attempts",
        job(
            State.RUNNING,
            max_cost_usd=100 * T4_USD_PER_S,
            costs={"run_0": Cost(device="T4", seconds=90, usd=90 * T4_USD_PER_S)},
        ),
        RUNNING,
        0,
        Liveness.COST_CAP,
    ),
    (
        "free of charge",
        job(State.RUNNING, executor="local", device="cpu", max_cost_usd=0),
        RUNNING,
        0,
        Liveness.HEALTHY,
    ),
]


@pytest.mark.parametrize(("case", "attempt", "status", "silent_s", "liveness"), TABLE, ids=[row[0] for row in TABLE])
def test_check_liveness(
    case: str, attempt: Job, status: CallStatus | None, silent_s: float, liveness: Liveness
) -> None:
    assert check_liveness(attempt, COMPUTE, Observation(status, silent_s), NOW, TIMEOUTS) is liveness


def test_every_liveness_is_in_the_table() -> None:
    assert {row[4] for row in TABLE} | {row[3] for row in QUEUE} | {Liveness.OVER_BUDGET} == set(Liveness)


def test_an_attempt_that_the_budget_does_not_pay_for_is_stopped_unless_its_worker_is_gone() -> None:
    running = Observation(RUNNING, 0.0, over_budget=True)
    assert check_liveness(job(State.RUNNING), COMPUTE, running, NOW, TIMEOUTS) is Liveness.OVER_BUDGET
    ended = Observation(ENDED, 0.0, over_budget=True)
    assert check_liveness(job(State.RUNNING), COMPUTE, ended, NOW, TIMEOUTS) is Liveness.ENDED


def starting(since_s: float, device: str = "T4", reported_s: float | None = None) -> Job:
    reported_at = None if reported_s is None else ago(reported_s)
    return job(State.STARTING, device=device, starting_at=ago(since_s), waiting_reported_at=reported_at)


#: Starting, on an executor that queues calls: reported after 15 s, next rung after 120 s.
QUEUE: list[tuple[str, Job, str | None, Liveness]] = [
    ("not reported yet", starting(14.9), "A10", Liveness.HEALTHY),
    ("no GPU so far", starting(15), "A10", Liveness.WAITING_FOR_GPU),
    ("reported just now", starting(16, reported_s=1), "A10", Liveness.HEALTHY),
    ("reported again after twice as long", starting(30, reported_s=15), "A10", Liveness.WAITING_FOR_GPU),
    ("next rung", starting(120, reported_s=60), "A10", Liveness.NO_GPU),
    ("waits on the last rung", starting(5000, reported_s=2000), None, Liveness.HEALTHY),
    ("reported on the last rung", starting(5000, reported_s=2600), None, Liveness.WAITING_FOR_GPU),
    ("a CPU in a queue", starting(79.9, "cpu"), None, Liveness.HEALTHY),
    ("no CPU in time", starting(80, "cpu"), None, Liveness.NOT_STARTED),
]


@pytest.mark.parametrize(("case", "attempt", "next_device", "liveness"), QUEUE, ids=[row[0] for row in QUEUE])
def test_a_queued_call(case: str, attempt: Job, next_device: str | None, liveness: Liveness) -> None:
    compute = Compute(gpus=("T4", "A10"), timeout_s=100, start_timeout_s=20)
    observation = Observation(RUNNING, 0.0, queues=True, next_device=next_device)
    assert check_liveness(attempt, compute, observation, NOW, TIMEOUTS) is liveness, case
