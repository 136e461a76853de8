"""Prometheus metrics of the dispatcher, read from the live objects at each scrape."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from contracts.events.base import Envelope
from contracts.events.job import FailureClass, JobFailed, JobInterrupted, JobStarting
from contracts.job import Job, State
from services.dispatcher.jobs.unfinished_jobs import is_job_event
from services.dispatcher.scheduling.reconciler import Reconciler
from services.dispatcher.scheduling.slot_pools import PoolName

_WAIT_BUCKETS_S: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14_400)
_WAITING: Final = (State.SUBMITTED, State.QUEUED)
_COUNTED: Final = frozenset((JobStarting.type, JobInterrupted.type, JobFailed.type))
#: Events that are older are read again after a start.
_NEW: Final = timedelta(minutes=10)


class _Live(Collector):
    """Gauges whose values are read at scrape time."""

    def __init__(self, reconciler: Reconciler, last_sequence: Callable[[], int]) -> None:
        self._reconciler = reconciler
        self._last_sequence = last_sequence

    def collect(self) -> Iterator[Metric]:
        states = Count(job.state for job in self._reconciler.jobs)
        jobs = GaugeMetricFamily("saccade_dispatcher_jobs", "Unfinished jobs by state", labels=["state"])
        for state in State:
            if not state.ended:
                jobs.add_metric([state.value], states[state])
        yield jobs
        yield from self._slots()
        yield GaugeMetricFamily(
            "saccade_dispatcher_leading", "1 while this dispatcher holds the lease", float(self._reconciler.leading)
        )
        holds = self._reconciler.holds
        yield GaugeMetricFamily(
            "saccade_dispatcher_drained", "1 while nothing new is launched", float(holds.drained is not None)
        )
        paused = GaugeMetricFamily(
            "saccade_dispatcher_paused", "1 for each workload whose jobs stay queued", labels=["workload"]
        )
        for workload in holds.paused:
            paused.add_metric([workload], 1.0)
        yield paused
        yield GaugeMetricFamily(
            "saccade_dispatcher_stream_sequence", "Sequence of the newest folded event", self._last_sequence()
        )

    def _slots(self) -> Iterator[Metric]:
        """Yield what there is of slots, and who waits for one, by pool."""
        queue, now = self._reconciler.queue, datetime.now(UTC)
        slots = GaugeMetricFamily("saccade_dispatcher_slots", "Maximum number of concurrent workers", labels=["kind"])
        held = GaugeMetricFamily("saccade_dispatcher_slots_held", "Slots held by jobs", labels=["kind"])
        oldest = GaugeMetricFamily(
            "saccade_dispatcher_oldest_waiting_seconds",
            "Age of the oldest job that has not had a worker yet",
            labels=["kind"],
        )
        since = self._waiting_since()
        for name, pool in queue.pools():
            slots.add_metric([name], pool.limits.slots)
            held.add_metric([name], pool.holding)
            oldest.add_metric([name], (now - since[name]).total_seconds() if name in since else 0.0)
        yield from (slots, held, oldest)

    def _waiting_since(self) -> dict[PoolName, datetime]:
        """Return when the oldest job was created that has not had a worker yet, by pool."""
        found: dict[PoolName, datetime] = {}
        for job in self._reconciler.jobs:
            if job.state in _WAITING:
                pool = self._reconciler.queue.pool_of(job.submitted.workload)
                found[pool] = min(found.get(pool, job.created_at), job.created_at)
        return found


class DispatcherMetrics:
    """Metrics registry of one dispatcher; other objects of it add theirs to ``registry``."""

    def __init__(self, reconciler: Reconciler, last_sequence: Callable[[], int]) -> None:
        """Register gauges that read from a reconciler."""
        self.registry = CollectorRegistry()
        self.registry.register(_Live(reconciler, last_sequence))
        self._events = Counter(
            "saccade_dispatcher_job_events", "Durable job events received", ["type"], registry=self.registry
        )
        self._reconciler = reconciler
        self._queue_wait = Histogram(
            "saccade_dispatcher_queue_wait_seconds",
            "Time from a job's submission to the launch of its first attempt",
            ["workload"],
            buckets=_WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self._interrupted = Counter(
            "saccade_dispatcher_attempts_interrupted",
            "Attempts that ended without success, by class of the failure",
            ["failure"],
            registry=self.registry,
        )
        self._failed = Counter(
            "saccade_dispatcher_jobs_failed",
            "Jobs that failed, by class of the failure",
            ["failure"],
            registry=self.registry,
        )
        for failure in get_args(FailureClass):
            # From the start, at zero: Prometheus' increase() does not see how a new series came to its first value.
            self._interrupted.labels(failure)
            self._failed.labels(failure)

    def count(self, subject: str) -> None:
        """Count a durable job event by the type in its subject."""
        if is_job_event(subject):
            self._events.labels(type=f"job.{subject.rpartition('.')[2]}").inc()

    def on_event(self, event: Envelope, job: Job | None) -> None:
        """Count what happened to a job just now; only the dispatcher that leads does, so that the sum is right."""
        if event.type not in _COUNTED or not self._reconciler.leading or datetime.now(UTC) - event.time > _NEW:
            return
        data = event.parsed()
        if isinstance(data, JobInterrupted):
            self._interrupted.labels(data.failure).inc()
        elif isinstance(data, JobFailed):
            self._failed.labels(data.failure).inc()
        elif job is not None and isinstance(data, JobStarting) and data.attempt == 1:
            self._queue_wait.labels(job.submitted.workload).observe((event.time - job.created_at).total_seconds())

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in text format and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
