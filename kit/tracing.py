"""Spans of what this process does, for OpenTelemetry; nothing is recorded before ``start_tracing``.

The ids come from the events and requests themselves (contracts/trace_context.py): a trace is whole without a span, and
every service decides by the trace id alone whether to record it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Literal

from contracts.trace_context import CURRENT, TraceContext, current_traceparent, new_span_id, parse_traceparent
from kit.settings import TracingSettings

log = logging.getLogger(__name__)

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool


@dataclass(slots=True)
class Span:
    """One thing that was done, from its start to its end."""

    name: str
    kind: Kind
    context: TraceContext
    parent_id: str | None
    start_ns: int
    end_ns: int = 0
    attributes: dict[str, Value] = field(default_factory=dict)
    #: What went wrong, in a word that contains no data of users.
    error: str | None = None
    #: Service that did it, if not this process.
    service: str | None = None
    #: Set by who sees that nothing was done.
    is_empty: bool = False


class Recorder:
    """Passes spans of the sampled traces on."""

    def __init__(self, sink: Callable[[Span], None], ratio: float = 1.0) -> None:
        """Pass spans to ``sink``, which must not block; ``ratio`` is the share of traces that are recorded."""
        self._sink = sink
        self._bound = round(ratio * 2**64)

    def samples(self, context: TraceContext) -> bool:
        """Return whether a trace is recorded: by its id, as OpenTelemetry's TraceIdRatioBased decides."""
        return int(context.trace_id[16:], 16) < self._bound

    def record(self, span: Span) -> None:
        """Pass a span on; a sink that fails loses it, and nothing else."""
        try:
            self._sink(span)
        except Exception:
            log.exception("a span is lost")


class _Tracing:
    """Recorder of this process; None while tracing is off."""

    def __init__(self) -> None:
        self.recorder: Recorder | None = None


_TRACING: Final = _Tracing()


def recorder() -> Recorder | None:
    """Return what records this process's spans; None while tracing is off."""
    return _TRACING.recorder


def use_recorder(used: Recorder | None) -> None:
    """Record with ``used`` from now on; None turns tracing off."""
    _TRACING.recorder = used


def start_tracing(service: str, settings: TracingSettings | None = None) -> Callable[[], None]:
    """Export spans as the environment says; return what ends it. Never raises: tracing must not stop a service."""
    settings = settings or TracingSettings()
    if not settings.endpoint:
        return lambda: None
    try:
        from kit.otlp_export import open_exporter  # noqa: PLC0415 - OpenTelemetry is optional, and imported when used
    except ImportError:
        log.warning("traces are not exported: install the extra otel (docs/tracing.md)")
        return lambda: None
    export = open_exporter(service, settings)
    use_recorder(Recorder(export.record, settings.ratio))

    def end() -> None:
        use_recorder(None)
        export.close()

    return end


@contextmanager
def span(
    name: str, kind: Kind = "internal", *, parent: str | None = None, attributes: dict[str, Value] | None = None
) -> Iterator[Span | None]:
    """Record what is done inside as a span below ``parent``, by default what is being done now.

    Events that are encoded inside get its context. Yields None when nothing is recorded.
    """
    using = _TRACING.recorder
    above = parse_traceparent(parent or current_traceparent()) if using else None
    if using is None or above is None or not using.samples(above):
        yield None
        return
    context = above.child(new_span_id(), sampled=True)
    done = Span(name, kind, context, above.span_id, time.time_ns(), attributes=dict(attributes or {}))
    token = CURRENT.set(str(context))
    try:
        yield done
    except asyncio.CancelledError:
        done.error = "cancelled"
        raise
    except Exception as error:
        done.error = type(error).__name__
        raise
    finally:
        CURRENT.reset(token)
        if not done.is_empty:
            done.end_ns = time.time_ns()
            using.record(done)


def recorded_publish(subject: str, event_id: str) -> AbstractContextManager[Span | None]:
    """Record a publish as a span of what is being done; nothing while tracing is off."""
    if _TRACING.recorder is None:
        return nullcontext()
    noun, _, verb = (*subject.split(".")[3:], "", "", "")[:3]
    return span(f"publish {noun}.{verb}", "producer", attributes={"messaging.message.id": event_id})
