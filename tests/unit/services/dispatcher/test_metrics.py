"""Counts of what happens to jobs: by the dispatcher that leads, of new events, by few labels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import Envelope, EventData, decode, encode
from contracts.events.job import Cost, JobFailed, JobInterrupted, JobStarting, JobSubmitted
from contracts.job import Job, fold
from services.dispatcher.metrics import DispatcherMetrics

LOST = ErrorBody(code=ErrorCode.WORKER_LOST, message="lost", hint="", retryable=True)
COST = Cost(seconds=1, usd=0.0, device="cpu", usd_per_s=0.0)
EVENTS: list[EventData] = [
    JobStarting(attempt=1, run_id="run_1", executor="local", device="cpu", rung=0, usd_per_s=0.0),
    JobInterrupted(
        attempt=1,
        run_id="run_1",
        failure="lost",
        error=LOST,
        cost=Cost(seconds=1, usd=0.0, device="cpu", usd_per_s=0.0),
    ),
    JobFailed(attempt=1, failure="lost", error=LOST),
]


def event(data: EventData, at: datetime) -> Envelope:
    return decode(encode(data, tenant="acme", subject_id="job_1", source="/test", time=at).body)


def played(*, leading: bool = True, age: timedelta = timedelta()) -> Any:
    """Return the registry of a dispatcher that saw a job wait 20 s, be lost, and fail."""
    reconciler: Any = SimpleNamespace(leading=leading)
    metrics = DispatcherMetrics(reconciler, lambda: 0)
    at = datetime.now(UTC) - age
    submitted = JobSubmitted(workload="laps", workload_version="1", inputs={}, params={}, deadline=at)
    job: Job | None = fold(None, event(submitted, at - timedelta(seconds=20)), 1)
    for data in EVENTS:
        metrics.on_event(event(data, at), None if isinstance(data, JobFailed) else job)
    # Without the gauges, which need a whole dispatcher.
    return lambda name, **labels: next(
        (
            sample.value
            for metric in (metrics._queue_wait, metrics._interrupted, metrics._failed)
            for family in metric.collect()
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        ),
        None,
    )


def test_waits_and_failures_are_counted_by_class():
    value = played()
    assert value("saccade_dispatcher_queue_wait_seconds_sum", workload="laps") == 20
    assert value("saccade_dispatcher_attempts_interrupted_total", failure="lost") == 1
    assert value("saccade_dispatcher_jobs_failed_total", failure="lost") == 1


def test_a_standby_and_a_start_count_nothing():
    for value in (played(leading=False), played(age=timedelta(hours=1))):
        assert value("saccade_dispatcher_jobs_failed_total", failure="lost") == 0
        assert value("saccade_dispatcher_queue_wait_seconds_sum", workload="laps") is None
