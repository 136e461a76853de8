"""Prometheus metrics of the dispatcher, read from the live objects at each scrape."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from contracts.job import State
from services.dispatcher.jobs.unfinished_jobs import is_job_event
from services.dispatcher.scheduling.reconciler import Reconciler


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
        queue = self._reconciler.queue
        yield GaugeMetricFamily("saccade_dispatcher_slots", "Maximum number of concurrent workers", queue.limits.slots)
        yield GaugeMetricFamily("saccade_dispatcher_slots_held", "Slots held by jobs", queue.holding)
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


class DispatcherMetrics:
    """Metrics registry of one dispatcher; other objects of it add theirs to ``registry``."""

    def __init__(self, reconciler: Reconciler, last_sequence: Callable[[], int]) -> None:
        """Register gauges that read from a reconciler."""
        self.registry = CollectorRegistry()
        self.registry.register(_Live(reconciler, last_sequence))
        self._events = Counter(
            "saccade_dispatcher_job_events", "Durable job events received", ["type"], registry=self.registry
        )

    def count(self, subject: str) -> None:
        """Count a durable job event by the type in its subject."""
        if is_job_event(subject):
            self._events.labels(type=f"job.{subject.rpartition('.')[2]}").inc()

    def exposition(self) -> tuple[bytes, str]:
        """Return the metrics in text format and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
