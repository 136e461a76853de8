"""How an attempt is doing, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.events.job import Cost, JobSubmitted
from contracts.job import Job, State
from contracts.workload import Compute
from services.dispatcher.executors.executor import CallState, CallStatus
from services.dispatcher.lifecycle.liveness import Patience, Sighting, Verdict, judge

NOW = datetime(2026, 7, 1, tzinfo=UTC)
COMPUTE = Compute(timeout_s=100, start_timeout_s=20)
PATIENCE = Patience(find_s=5, silent_s=30, reaction_s=2)
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
    one = Job(
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
    return replace(one, **changes)


T4_USD_PER_S = 0.000164

TABLE: list[tuple[str, Job, CallStatus | None, float, Verdict]] = [
    ("at work", job(State.RUNNING), RUNNING, 1, Verdict.WELL),
    ("about to begin", job(State.STARTING), RUNNING, 999, Verdict.WELL),
    ("gone while running", job(State.RUNNING), ENDED, 0, Verdict.ENDED),
    ("gone while starting", job(State.STARTING), ENDED, 0, Verdict.ENDED),
    ("gone in time, looked at late", job(State.RUNNING, started_at=ago(500)), ENDED, 500, Verdict.ENDED),
    ("cancelled", job(State.RUNNING, cancel_requested=True), RUNNING, 0, Verdict.CANCEL),
    ("cancelled and gone", job(State.RUNNING, cancel_requested=True), ENDED, 0, Verdict.CANCEL),
    ("cancelled before it was found", job(State.STARTING, cancel_requested=True), None, 0, Verdict.CANCEL),
    ("just in time", job(State.RUNNING, started_at=ago(99.9)), RUNNING, 0, Verdict.WELL),
    ("too long", job(State.RUNNING, started_at=ago(100)), RUNNING, 0, Verdict.TIMED_OUT),
    ("past the deadline", job(State.RUNNING, deadline=ago(0)), RUNNING, 0, Verdict.PAST_DEADLINE),
    ("starting past the deadline", job(State.STARTING, deadline=ago(1)), RUNNING, 0, Verdict.PAST_DEADLINE),
    ("slow to begin", job(State.STARTING, starting_at=ago(19.9)), RUNNING, 0, Verdict.WELL),
    ("too slow to begin", job(State.STARTING, starting_at=ago(20)), RUNNING, 0, Verdict.NOT_STARTED),
    ("not found yet", job(State.STARTING, starting_at=ago(4.9)), None, 0, Verdict.WELL),
    ("not to be found", job(State.STARTING, starting_at=ago(5)), None, 0, Verdict.NOT_STARTED),
    ("a little quiet", job(State.RUNNING), RUNNING, 29.9, Verdict.WELL),
    ("silent", job(State.RUNNING), RUNNING, 30, Verdict.SILENT),
    ("silent and not to be found", job(State.RUNNING), None, 30, Verdict.SILENT),
    ("within its cap", job(State.RUNNING, max_cost_usd=12 * T4_USD_PER_S), RUNNING, 0, Verdict.WELL),
    ("near its cap", job(State.RUNNING, max_cost_usd=10.9 * T4_USD_PER_S), RUNNING, 0, Verdict.COST_CAP),
    (
        "near its cap by what went before",
        job(
            State.RUNNING,
            max_cost_usd=100 * T4_USD_PER_S,
            costs={"run_0": Cost(device="T4", seconds=90, usd=90 * T4_USD_PER_S)},
        ),
        RUNNING,
        0,
        Verdict.COST_CAP,
    ),
    ("free of charge", job(State.RUNNING, executor="local", device="cpu", max_cost_usd=0), RUNNING, 0, Verdict.WELL),
]


@pytest.mark.parametrize(("case", "one", "status", "silent_s", "verdict"), TABLE, ids=[row[0] for row in TABLE])
def test_judge(case: str, one: Job, status: CallStatus | None, silent_s: float, verdict: Verdict) -> None:
    assert judge(one, COMPUTE, Sighting(status, silent_s), NOW, PATIENCE) is verdict


def test_every_verdict_is_in_the_table() -> None:
    assert {row[4] for row in TABLE} | {row[3] for row in QUEUE} == set(Verdict)


def starting(since_s: float, device: str = "T4", told_s: float | None = None) -> Job:
    told_at = None if told_s is None else ago(told_s)
    return job(State.STARTING, device=device, starting_at=ago(since_s), waiting_reported_at=told_at)


#: Starting, at an executor where calls wait for their device: noticed after 15 s, the next rung after 120 s.
QUEUE: list[tuple[str, Job, str | None, Verdict]] = [
    ("not yet worth a word", starting(14.9), "A10", Verdict.WELL),
    ("no GPU so far", starting(15), "A10", Verdict.WAITING_FOR_GPU),
    ("told just now", starting(16, told_s=1), "A10", Verdict.WELL),
    ("told again when it has taken twice as long", starting(30, told_s=15), "A10", Verdict.WAITING_FOR_GPU),
    ("to be climbed", starting(120, told_s=60), "A10", Verdict.NO_GPU),
    ("the last rung is waited for", starting(5000, told_s=2000), None, Verdict.WELL),
    ("and told on the last rung", starting(5000, told_s=2600), None, Verdict.WAITING_FOR_GPU),
    ("a CPU in a queue", starting(79.9, "cpu"), None, Verdict.WELL),
    ("a CPU that does not come", starting(80, "cpu"), None, Verdict.NOT_STARTED),
]


@pytest.mark.parametrize(("name", "of", "next_device", "verdict"), QUEUE, ids=[row[0] for row in QUEUE])
def test_a_call_in_a_queue(name: str, of: Job, next_device: str | None, verdict: Verdict) -> None:
    compute = Compute(gpus=("T4", "A10"), timeout_s=100, start_timeout_s=20)
    sighting = Sighting(RUNNING, 0.0, queues=True, next_device=next_device)
    assert judge(of, compute, sighting, NOW, PATIENCE) is verdict, name
