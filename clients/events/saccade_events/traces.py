"""OpenTelemetry traces of reactions: a span a delivery, in the trace that the event names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.trace import SpanKind, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from saccade_events.event import Event
from saccade_events.observer import Observer


class ReactionTraces(Observer):
    """Spans of reactions, named by consumer.

    Source: CloudEvents' distributed tracing extension (``traceparent``); OpenTelemetry's semantic conventions for
    messaging, "process".
    """

    def __init__(self, provider: TracerProvider) -> None:
        """Use a tracer of this provider."""
        self._tracer = provider.get_tracer("saccade_events")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def handling(self, consumer: str, event: Event[Any]) -> Iterator[None]:
        """Make a span that continues the event's trace; an error of the handler is recorded on it."""
        carrier = {"traceparent": event.traceparent} if event.traceparent else {}
        attributes = {
            "messaging.system": "nats",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": consumer,
            "messaging.message.id": event.id,
        }
        with self._tracer.start_as_current_span(
            f"{consumer} process",
            context=self._propagator.extract(carrier),
            kind=SpanKind.CONSUMER,
            attributes=attributes,
        ):
            yield
