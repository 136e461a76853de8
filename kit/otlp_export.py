"""Export of spans by OTLP over HTTP, in a thread of its own. The only module that imports OpenTelemetry's SDK.

A collector that is slow or away costs spans: the queue is bounded, and nothing waits for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from kit.counts import count
from kit.settings import TracingSettings
from kit.tracing import Span

log = logging.getLogger(__name__)

_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_SCOPE: Final = InstrumentationScope("saccade")
_RECORDED: Final = TraceFlags(TraceFlags.SAMPLED)
_QUEUE_SPANS: Final = 4096
_BATCH_SPANS: Final = 512
_EVERY_MS: Final = 2000
#: Time that one request to the collector may take, with all its retries.
_REQUEST_S: Final = 5
#: A stop of the service does not wait longer for the last spans.
_CLOSE_S: Final = 0.5


class _QuietExporter(SpanExporter):
    """An exporter whose failures are logged when they begin and when they end, and never raised."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001 - of any library below; a failure is a result, and is logged once
            result = SpanExportResult.FAILURE
        is_failing = result is not SpanExportResult.SUCCESS
        count("saccade_trace_exports", "failed" if is_failing else "done")
        if is_failing != self._is_failing:
            self._is_failing = is_failing
            log.warning("traces are %s", "lost: the collector does not take them" if is_failing else "exported again")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class SpanExport:
    """Queue of spans, and the thread that sends them."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        """Export as ``saccade-<service>``."""
        self._service = service
        self._resources: dict[str, Resource] = {}
        self._processor = BatchSpanProcessor(
            _QuietExporter(exporter),
            max_queue_size=_QUEUE_SPANS,
            max_export_batch_size=_BATCH_SPANS,
            schedule_delay_millis=_EVERY_MS,
        )

    def record(self, span: Span) -> None:
        """Queue a span; when the queue is full the oldest is lost."""
        self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is queued, for a moment; a collector that does not answer is left alone."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    def _readable(self, span: Span) -> ReadableSpan:
        trace_id = int(span.context.trace_id, 16)
        parent_id = int(span.parent_id, 16) if span.parent_id else None
        return ReadableSpan(
            span.name,
            SpanContext(trace_id, int(span.context.span_id, 16), is_remote=False, trace_flags=_RECORDED),
            SpanContext(trace_id, parent_id, is_remote=True, trace_flags=_RECORDED) if parent_id else None,
            self._resource(span.service or self._service),
            span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=_SCOPE,
        )

    def _resource(self, service: str) -> Resource:
        if service not in self._resources:
            self._resources[service] = Resource.create({"service.name": f"saccade-{service}"})
        return self._resources[service]


def open_exporter(service: str, settings: TracingSettings) -> SpanExport:
    """Return the export to the collector of the settings."""
    # Each failed request is a line with a traceback: ours says once what is wrong.
    for noisy in ("opentelemetry.exporter", "opentelemetry.sdk", "opentelemetry"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    endpoint = f"{settings.endpoint.rstrip('/')}/v1/traces"
    return SpanExport(service, OTLPSpanExporter(endpoint, headers=settings.header_values, timeout=_REQUEST_S))
