"""Spans: nothing while off, whole while on, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys

import pytest

from contracts.trace_context import current_traceparent, new_trace, parse_traceparent
from kit.settings import TracingSettings
from kit.tracing import Recorder, Span, recorder, span, start_tracing, use_recorder
from tests.harness.servers.embedded import HOST, free_port

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def test_nothing_is_recorded_while_tracing_is_off():
    with span("work", parent=PARENT) as done:
        assert done is None
        assert current_traceparent() is None


def test_spans_lie_in_each_other(recorded: list[Span]):
    with span("outer", parent=PARENT) as outer, span("inner", "client", attributes={"a": 1}) as inner:
        assert outer
        assert inner
        assert current_traceparent() == str(inner.context)
    assert [done.name for done in recorded] == ["inner", "outer"]
    assert inner.parent_id == outer.context.span_id
    assert outer.parent_id == "00f067aa0ba902b7"
    assert inner.context.trace_id == outer.context.trace_id == PARENT[3:35]
    assert outer.start_ns <= inner.start_ns <= inner.end_ns <= outer.end_ns
    assert current_traceparent() is None


def test_a_failure_is_a_word_without_data(recorded: list[Span]):
    with pytest.raises(ValueError, match="secret"), span("work", parent=PARENT):
        raise ValueError("secret")
    with pytest.raises(asyncio.CancelledError), span("work", parent=PARENT):
        raise asyncio.CancelledError
    assert [done.error for done in recorded] == ["ValueError", "cancelled"]


def test_what_did_nothing_is_left_out(recorded: list[Span]):
    with span("work", parent=PARENT) as done:
        assert done
        done.is_empty = True
    with span("work"):  # in no trace
        pass
    assert recorded == []


def test_a_sink_that_fails_loses_a_span_only(caplog: pytest.LogCaptureFixture):
    def full(_: Span) -> None:
        raise RuntimeError

    use_recorder(Recorder(full))
    with caplog.at_level(logging.ERROR, "kit.tracing"), span("work", parent=PARENT):
        pass
    use_recorder(None)
    assert "a span is lost" in caplog.text


def test_the_share_of_traces_is_kept_and_the_same_for_all():
    contexts = [new_trace() for _ in range(2000)]
    fifth = [context for context in contexts if Recorder(print, 0.2).samples(context)]
    assert 300 < len(fifth) < 500
    assert all(Recorder(print, 0.3).samples(context) for context in fifth)
    assert all(Recorder(print, 1.0).samples(context) for context in contexts)


def test_no_collector_no_import():
    """Importing the services and starting without an endpoint loads neither OpenTelemetry's SDK nor its exporter."""
    script = (
        "import sys, services.gateway.__main__, services.dispatcher.__main__, services.notifier.__main__;"
        "from kit.tracing import start_tracing; start_tracing('gateway')();"
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_a_collector_that_is_away_is_said_once_and_costs_nothing(caplog: pytest.LogCaptureFixture):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    end = start_tracing("gateway", TracingSettings(endpoint=f"http://{HOST}:{free_port()}"))
    assert recorder()
    for _ in range(5000):  # more than the queue holds
        with span("work", parent=PARENT):
            pass
    end()
    assert recorder() is None
    assert not [record for record in caplog.records if record.exc_info]


def test_headers_are_decoded_and_never_shown():
    settings = TracingSettings(headers="Authorization=Bearer%20abc, x-team = a")
    assert settings.header_values == {"authorization": "Bearer abc", "x-team": "a"}
    assert "abc" not in repr(settings)
    assert parse_traceparent(PARENT)
