"""What the notifier counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """The notifier's figures, in a registry of their own."""

    def __init__(self) -> None:
        """Start at zero."""
        self.registry = CollectorRegistry()
        self.streams = Gauge("saccade_sse_streams", "Open event streams", registry=self.registry)
        self.events = Counter("saccade_sse_events", "Stored events taken from the stream", registry=self.registry)
        self.frames = Counter("saccade_sse_frames", "Live frames given to streams", registry=self.registry)
        self.replayed = Counter("saccade_sse_replayed", "Events replayed from the stream", registry=self.registry)
        self.gaps = Counter("saccade_sse_gaps", "Gaps told to clients", registry=self.registry)
        self.conflated = Counter("saccade_sse_conflated", "Progress that a slow client skipped", registry=self.registry)
        self.closed = Counter(
            "saccade_sse_closed", "Streams closed by the server, by reason", ["reason"], registry=self.registry
        )
        self.webhook_attempts = Counter(
            "saccade_webhook_attempts", "Attempts to deliver, by outcome", ["outcome"], registry=self.registry
        )
        self.webhooks_waiting = Gauge("saccade_webhooks_waiting", "Deliveries that wait", registry=self.registry)

    def expose(self) -> tuple[bytes, str]:
        """Write them in Prometheus' text format, with its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
