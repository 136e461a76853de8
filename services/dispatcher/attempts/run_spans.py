"""Spans of workers' runs, from their events: workers need neither OpenTelemetry nor the way to a collector.

Their ids follow from the run's id, so that another dispatcher that records the same run again adds no second span.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.events.base import Envelope, EventData
from contracts.events.job import (
    PIPELINE,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSucceeded,
)
from contracts.job import Job
from contracts.trace_context import parse_traceparent, run_span_id
from kit.tracing import Recorder, Span, recorder

_RECORDED: Final = frozenset(
    kind.type
    for kind in (JobStarting, JobStarted, JobStageCompleted, JobInterrupted, JobSucceeded, JobFailed, JobCancelled)
)
#: Events that are older are read again after a start: somebody has recorded them.
_NEW: Final = timedelta(minutes=10)


@dataclass
class _Run:
    """A run that has started; the job as it was then, and when its latest stage began."""

    job: Job
    run_id: str
    started_at: datetime
    stage_began_at: datetime


class RunSpans:
    """Records the wait for a worker, each run, and each of its stages."""

    def __init__(self, is_leader: Callable[[], bool], now: Callable[[], datetime]) -> None:
        """Record while ``is_leader``; others fold the same events."""
        self._is_leader = is_leader
        self._now = now
        #: Runs that have not ended, by job.
        self._runs: dict[str, _Run] = {}

    def on_event(self, event: Envelope, job: Job | None) -> None:
        """Record what ended with an event; ``job`` is the job after it, or after a later one, or None."""
        if (using := recorder()) is None or event.type not in _RECORDED:
            return
        data = event.parsed()
        run = self._runs.get(event.subject)
        if isinstance(data, JobStarted):
            if job is not None:
                self._runs[event.subject] = _Run(job, data.run_id, event.time, event.time)
        elif isinstance(data, JobStageCompleted):
            if run and run.run_id == data.run_id:
                self._record_stage(using, event, data, run)
                run.stage_began_at = event.time
        elif isinstance(data, JobStarting):
            # Before a later attempt it is the retry's delay that a job waits for.
            if job is not None and data.executor != PIPELINE and data.attempt == job.first_attempt == 1:
                span = _span(job, f"wait.{data.run_id}", "wait for a worker", job.created_at, event.time)
                self._record(using, event, job, span)
        elif run:
            del self._runs[event.subject]
            self._record_run(using, event, data, run)

    def _record_stage(self, using: Recorder, event: Envelope, data: JobStageCompleted, run: _Run) -> None:
        span = _span(run.job, f"{run.run_id}/stage.{data.stage}", f"stage {data.stage}", run.stage_began_at, event.time)
        if span:
            span.parent_id, span.service = run_span_id(run.run_id), "worker"
        self._record(using, event, run.job, span)

    def _record_run(self, using: Recorder, event: Envelope, data: EventData, run: _Run) -> None:
        span = _span(run.job, run.run_id, f"run {run.job.submitted.workload}", run.started_at, event.time)
        if span:
            span.kind, span.service = "consumer", "worker"
            span.attributes |= {
                "saccade.run_id": run.run_id,
                "saccade.attempt": run.job.attempt,
                "saccade.device": run.job.device or "",
                "saccade.end": event.type,
            }
            if isinstance(data, JobInterrupted | JobFailed):
                span.error = data.failure
        self._record(using, event, run.job, span)

    def _record(self, using: Recorder, event: Envelope, job: Job, span: Span | None) -> None:
        if span is None or not using.samples(span.context) or not self._is_leader():
            return
        if self._now() - event.time < _NEW and job.executor != PIPELINE:
            using.record(span)


def _span(job: Job, seed: str, name: str, began: datetime, ended: datetime) -> Span | None:
    """Return a span whose id is made of ``seed``; None for a job without a trace."""
    context = parse_traceparent(job.traceparent)
    if context is None:
        return None
    span = Span(name, "internal", context.child(run_span_id(seed), sampled=True), context.span_id, _ns(began))
    span.end_ns = max(span.start_ns, _ns(ended))
    span.attributes = {"saccade.job_id": job.id, "saccade.workload": job.submitted.workload}
    return span


def _ns(at: datetime) -> int:
    return round(at.timestamp() * 1e6) * 1000
