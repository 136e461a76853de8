"""Prometheus metrics of reactions, one set of series a consumer; FastStream's own have a label for each subject."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nats.js.api import ConsumerInfo
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from saccade_events.event import Event
from saccade_events.observer import Observer, Outcome


class ReactionMetrics(Observer):
    """Counts, durations and backlogs of reactions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register the metrics."""
        self._settled = Counter(
            "saccade_reaction_events",
            "Deliveries of events to a reaction, by how they ended",
            ["consumer", "outcome"],
            registry=registry,
        )
        self._seconds = Histogram(
            "saccade_reaction_seconds", "Time in the handler of a reaction", ["consumer"], registry=registry
        )
        self._pending = self._gauge("pending", "Events that were not delivered to the reaction yet", registry)
        self._ack_pending = self._gauge("ack_pending", "Events that are being handled or wait for a retry", registry)
        self._redelivered = self._gauge("redelivered", "Unfinished events delivered more than once", registry)
        self._stalled = self._gauge("stalled", "1 while there are events and nobody asks for them", registry)

    @staticmethod
    def _gauge(name: str, text: str, registry: CollectorRegistry) -> Gauge:
        return Gauge(f"saccade_reaction_{name}", text, ["consumer"], registry=registry)

    @contextmanager
    def handling(self, consumer: str, event: Event[Any]) -> Iterator[None]:  # noqa: ARG002 - the base class's
        """Measure how long the handler takes."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self._seconds.labels(consumer).observe(time.perf_counter() - begin)

    def on_settled(self, consumer: str, outcome: Outcome) -> None:
        """Count how a delivery ended."""
        self._settled.labels(consumer, outcome).inc()

    def on_look(self, consumer: str, info: ConsumerInfo, *, stalled: bool) -> None:
        """Show the consumer's backlog."""
        self._pending.labels(consumer).set(info.num_pending or 0)
        self._ack_pending.labels(consumer).set(info.num_ack_pending or 0)
        self._redelivered.labels(consumer).set(info.num_redelivered or 0)
        self._stalled.labels(consumer).set(stalled)
