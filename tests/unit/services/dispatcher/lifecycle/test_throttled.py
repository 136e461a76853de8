"""A launch that was rejected for now: the delay that the executor asked for holds for every dispatcher."""

from __future__ import annotations

import random
from datetime import timedelta

from contracts.budget import BudgetLimits
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, decode, encode
from contracts.events.job import JobInterrupted, JobQueued, JobStarting, JobSubmitted
from contracts.job import State
from services.dispatcher.jobs.unfinished_jobs import fold_all
from services.whatif.memory_store import MemoryStore
from services.whatif.virtual_time import BEGIN, run
from tests.harness.dispatch.gpu_market_run import RULES, DispatcherSeries

JOB = "job_1"


async def settled(retry_after_s: float | None) -> dict[str, object]:
    """Return the event by which a dispatcher that did not see the rejection settles the attempt."""
    store = MemoryStore(random.Random(1))
    error = SaccadeError(ErrorCode.WORKER_NOT_STARTED, "No more calls for now.").body()
    attempt = {"attempt": 1, "run_id": "run_1"}
    events: list[EventData] = [
        JobSubmitted(
            workload="laps", workload_version="1", inputs={}, params={}, deadline=BEGIN + timedelta(seconds=900)
        ),
        JobQueued(position=1),
        JobStarting(**attempt, executor="modal", device="cpu"),
        JobInterrupted(**attempt, failure="throttled", error=error, retry_after_s=retry_after_s),
    ]
    for data in events:
        await store.publish(encode(data, tenant="acme", subject_id=JOB, source="/dispatcher", time=BEGIN))
    series = DispatcherSeries(1, store, BudgetLimits())
    series.begin()
    assert series.lifecycle
    job = fold_all(store.of(f"saccade.evt.acme.job.{JOB}"))
    assert job
    assert job.state is State.INTERRUPTED
    await series.lifecycle.advance(JOB, "acme", granted=False)
    await series.kill()
    last = decode(store.log[-1].body)
    assert last.type in ("job.retrying", "job.failed")
    return {"type": last.type, **last.data}


def test_another_dispatcher_keeps_to_the_delay_that_the_executor_asked_for() -> None:
    told = run(settled(37.0))
    assert told["type"] == "job.retrying"
    assert 37.0 <= float(str(told["delay_s"])) <= 1.5 * 37.0


def test_a_rejection_that_asked_for_nothing_has_the_dispatchers_own_delay() -> None:
    throttled_s = RULES.retry_policy.throttled_interval_s
    assert 0.5 * throttled_s <= float(str(run(settled(None))["delay_s"])) <= throttled_s


def test_a_delay_beyond_the_deadline_ends_the_job() -> None:
    told = run(settled(1000.0))
    assert (told["type"], told.get("failure")) == ("job.failed", "timed_out")
