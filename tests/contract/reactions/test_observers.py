"""Metrics have one set of series a consumer and none a job; a span continues the trace that the event names."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import CollectorRegistry, generate_latest
from saccade_events import Event, RetryPolicy
from saccade_events.metrics import ReactionMetrics
from saccade_events.traces import ReactionTraces

from contracts.events.upload import UploadCompleted
from contracts.streams import EVENTS
from tests.harness.streams.reaction_stage import CONSUMER, Stage, complete_upload, fail, succeed

pytestmark = pytest.mark.anyio


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Return the metrics of the tested reaction, by name and outcome."""
    return {
        "_".join([sample.name.removeprefix("saccade_reaction_"), *filter(None, [sample.labels.get("outcome")])]): (
            sample.value
        )
        for metric in registry.collect()
        for sample in metric.samples
        if sample.labels.get("consumer") == CONSUMER and "le" not in sample.labels
    }


async def test_metrics_count_by_consumer_and_outcome(stage: Stage) -> None:
    registry = CollectorRegistry()
    async with stage.running(stage.bus(observers=[ReactionMetrics(registry)])):
        for _ in range(20):
            await complete_upload(stage.store)
        await stage.until_settled()
        stage.act = fail
        await complete_upload(stage.store)
        await stage.until_dead_letters(1)
        await stage.until(lambda: samples(registry).get("pending") == 0)
        found = samples(registry)
    assert found["events_total_handled"] == 20
    assert found["events_total_retried"] == 2
    assert found["events_total_dead_lettered"] == 1
    assert found["seconds_count"] == 23
    text = generate_latest(registry).decode()
    assert {line.split('consumer="')[1].split('"')[0] for line in text.splitlines() if "consumer=" in line} == {
        CONSUMER
    }
    assert "upl_" not in text


async def test_gauges_show_a_backlog_and_a_subscriber_that_asks_no_more(stage: Stage) -> None:
    registry = CollectorRegistry()
    bus = stage.bus(observers=[ReactionMetrics(registry)])
    async with stage.running(bus):
        await complete_upload(stage.store)
        await stage.until_settled()
        for subscriber in bus.subscribers:
            await subscriber.stop()  # as after an error that nothing restarts; the connection is fine
        for _ in range(3):
            await complete_upload(stage.store)
        await stage.until(lambda: samples(registry).get("stalled") == 1)
        assert samples(registry)["pending"] == 3
        assert await bus.ping(1), "ping does not tell"


async def test_a_reaction_that_is_waiting_for_a_retry_is_not_stalled(stage: Stage) -> None:
    registry = CollectorRegistry()
    stage.act = fail
    policy = RetryPolicy(initial_interval_s=30, maximum_interval_s=30)
    async with stage.running(stage.bus(policy, observers=[ReactionMetrics(registry)])):
        for _ in range(6):
            await complete_upload(stage.store)
        await stage.until(lambda: samples(registry).get("ack_pending") == 4)
        await stage.until_called(4)
        assert samples(registry)["stalled"] == 0
        assert samples(registry)["pending"] == 2


async def test_a_span_continues_the_trace_of_the_event_and_names_the_error(stage: Stage) -> None:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))

    async def fail_first(event: Event[UploadCompleted]) -> None:
        stage.act = succeed
        raise OSError("the network is down")

    stage.act = fail_first
    async with stage.running(stage.bus(observers=[ReactionTraces(provider)])):
        await complete_upload(stage.store, traceparent=f"00-{7:032x}-{1:016x}-01")
        await stage.until_called(2)
        await complete_upload(stage.store)
        await stage.until_settled()
    first, second, other = spans.get_finished_spans()
    assert {span.name for span in (first, second, other)} == {f"{CONSUMER} process"}
    assert [span.context.trace_id for span in (first, second)] == [7, 7]
    assert first.parent
    assert first.parent.span_id == 1
    assert other.context.trace_id != 7
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert EVENTS.name not in first.name
