"""Spans of runs are made from events, by the dispatcher that leads, once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, decode, encode
from contracts.events.job import (
    Cost,
    JobFailed,
    JobInterrupted,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
)
from contracts.job import Job, fold
from contracts.trace_context import run_span_id
from kit.tracing import Span
from services.dispatcher.attempts.run_spans import RunSpans

TRACEPARENT: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
BEGAN: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LOST: Final = ErrorBody(code=ErrorCode.WORKER_LOST, message="lost", hint="", retryable=True)
SUBMITTED: Final = JobSubmitted(
    workload="scripted", workload_version="1", inputs={}, params={}, deadline=BEGAN + timedelta(days=1)
)
COST: Final = Cost(seconds=1, usd=0.0, device="cpu", usd_per_s=0.0)
RUN: Final[list[EventData]] = [
    SUBMITTED,
    JobStarting(attempt=1, run_id="run_1", executor="local", device="cpu", rung=0, usd_per_s=0.0),
    JobStarted(attempt=1, run_id="run_1", device="cpu", worker="w"),
    JobStageCompleted(attempt=1, run_id="run_1", stage="first", duration_s=1),
    JobInterrupted(attempt=1, run_id="run_1", failure="lost", error=LOST, cost=COST),
    JobFailed(attempt=1, failure="lost", error=LOST),
]


def play(spans: RunSpans, *, traceparent: str | None = TRACEPARENT) -> None:
    """Play the run's events, ten seconds apart."""
    job: Job | None = None
    for number, data in enumerate(RUN):
        at = BEGAN + timedelta(seconds=10 * number)
        message = encode(
            data, tenant="acme", subject_id="job_1", source="/test", time=at,
            traceparent=traceparent if data is SUBMITTED else None,
        )  # fmt: skip
        event = decode(message.body)
        job = fold(job, event, number + 1)
        # The dispatcher forgets a job when it publishes its end, before it hears of that.
        spans.on_event(event, None if isinstance(data, JobFailed) else job)


def observer(*, leads: bool = True, later: timedelta = timedelta(minutes=1)) -> RunSpans:
    return RunSpans(lambda: leads, lambda: BEGAN + later)


def test_a_run_that_was_lost_has_its_spans(recorded: list[Span]):
    play(observer())
    found = [(span.name, (span.end_ns - span.start_ns) / 1e9, span.service, span.error) for span in recorded]
    assert found == [
        ("wait for a worker", 10.0, None, None),
        ("stage first", 10.0, "worker", None),
        ("run scripted", 20.0, "worker", "lost"),
    ]
    run = recorded[-1]
    assert run.context.span_id == run_span_id("run_1") == recorded[1].parent_id
    assert run.parent_id == recorded[0].parent_id == "00f067aa0ba902b7"
    assert run.attributes["saccade.end"] == "job.interrupted"


def test_another_dispatcher_makes_the_same_spans(recorded: list[Span]):
    play(observer())
    once = list(recorded)
    play(observer())
    assert recorded[len(once) :] == once


def test_nothing_is_made_by_a_standby_of_old_events_or_without_a_trace(recorded: list[Span]):
    play(observer(leads=False))
    play(observer(later=timedelta(hours=1)))
    play(observer(), traceparent=None)
    play(observer(), traceparent="nonsense")
    assert recorded == []


def test_nothing_is_kept_while_tracing_is_off():
    spans = observer()
    play(spans)
    assert not spans._runs
