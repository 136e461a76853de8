"""Prometheus metrics of the notifier."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector


class EventCounters(Collector):
    """Counters of the hot path, as plain numbers: a ``Counter`` takes a lock and ten times as long."""

    def __init__(self) -> None:
        """Start at zero."""
        self.events = 0
        self.frames = 0
        self._since = time.time()

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the counters in Prometheus' form."""
        yield CounterMetricFamily(
            "saccade_sse_events", "Stored events read from the stream", self.events, created=self._since
        )
        yield CounterMetricFamily("saccade_sse_frames", "Live frames sent to streams", self.frames, created=self._since)


class NotifierMetrics:
    """Metrics in a registry of their own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        self.streams = Gauge("saccade_sse_streams", "Open event streams", registry=self.registry)
        self.counters = EventCounters()
        self.registry.register(self.counters)
        self.replayed = Counter("saccade_sse_replayed", "Events replayed from the stream", registry=self.registry)
        self.gaps = Counter("saccade_sse_gaps", "Gaps reported to clients", registry=self.registry)
        self.conflated = Counter("saccade_sse_conflated", "Progress that a slow client skipped", registry=self.registry)
        self.closed = Counter(
            "saccade_sse_closed", "Streams closed by the server, by reason", ["reason"], registry=self.registry
        )
        self.webhook_attempts = Counter(
            "saccade_webhook_attempts", "Attempts to deliver, by outcome", ["outcome"], registry=self.registry
        )
        self.replay_attempts = Counter(
            "saccade_replay_attempts",
            "Events that replays sent to webhooks, by outcome",
            ["outcome"],
            registry=self.registry,
        )
        self.webhooks_waiting = Gauge("saccade_webhooks_waiting", "Pending deliveries", registry=self.registry)
        self.webhooks_oldest = Gauge(
            "saccade_webhooks_oldest_waiting_seconds",
            "Age of the oldest event with a pending delivery",
            registry=self.registry,
        )
        self.callback_attempts = Counter(
            "saccade_callback_attempts", "Requests of callbacks, by outcome", ["outcome"], registry=self.registry
        )
        self.callbacks_waiting = Gauge("saccade_callbacks_waiting", "Videos with callbacks", registry=self.registry)

    def expose(self) -> tuple[bytes, str]:
        """Return them in Prometheus' text format, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
