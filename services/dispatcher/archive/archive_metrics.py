"""Metrics of the archive, read from its writer at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from services.dispatcher.archive.archive_writer import ArchiveWriter
from services.dispatcher.archive.stream_trimmer import StreamTrimmer


class TrimMetrics(Collector):
    """Gauges and counters of one trimmer; all 0 while its dispatcher does not lead."""

    def __init__(self, trimmer: StreamTrimmer) -> None:
        """Read from a trimmer."""
        self._trimmer = trimmer

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        surplus = GaugeMetricFamily(
            "saccade_events_surplus",
            "Events in the stream beyond EVENTS_KEEP_MESSAGES, by what keeps them",
            labels=("held_by",),
        )
        surplus.add_metric([self._trimmer.held_by], self._trimmer.surplus)
        yield surplus
        yield CounterMetricFamily(
            "saccade_events_trimmed_total",
            "Archived events that were deleted from the stream because it had too many",
            self._trimmer.trimmed,
        )


class ArchiveMetrics(Collector):
    """Gauges and counters of one writer; all 0 while its dispatcher does not lead."""

    def __init__(self, writer: ArchiveWriter) -> None:
        """Read from a writer."""
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        lag = self._writer.lag
        yield GaugeMetricFamily("saccade_archive_behind_events", "Stored events that are not archived", lag.events)
        yield GaugeMetricFamily(
            "saccade_archive_behind_seconds", "Age of the oldest event that is not archived", lag.seconds
        )
        yield GaugeMetricFamily(
            "saccade_archive_retention_used",
            "Share of the stream's retention that is used by what is not archived; at 1 events are lost",
            lag.retention_used,
        )
        yield CounterMetricFamily("saccade_archive_segments_total", "Segments written", self._writer.segments)
        yield CounterMetricFamily(
            "saccade_archive_lost_events_total",
            "Events that the stream deleted before they were archived",
            self._writer.lost_events,
        )
