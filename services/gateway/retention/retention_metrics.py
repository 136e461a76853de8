"""Prometheus metrics of the retention of results and uploads, read from the sweep at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.gateway.retention.retention_sweep import RetentionSweep


class RetentionMetrics(Collector):
    """Counts of what was and what is to be removed, and the time of the last look."""

    def __init__(self, sweep: RetentionSweep) -> None:
        """Show what ``sweep`` does."""
        self._sweep = sweep

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics in Prometheus' form."""
        removed = CounterMetricFamily(
            "saccade_retention_removed", "Jobs whose results, and uploads, that were removed", labels=["kind"]
        )
        removed.add_metric(["results"], self._sweep.results)
        removed.add_metric(["uploads"], self._sweep.uploads)
        yield removed
        yield GaugeMetricFamily(
            "saccade_retention_removing",
            "Jobs whose results are not served any more and may be in the bucket still",
            self._sweep.removing,
        )
        yield GaugeMetricFamily(
            "saccade_retention_swept_at_seconds",
            "Unix time of the last complete look for what is over its retention; 0 before the first",
            self._sweep.swept_at_s,
        )
