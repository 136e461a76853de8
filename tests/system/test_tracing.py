"""One job is one trace: the whole system exports its spans to a collector, and the webhook has the trace too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from contracts.trace_context import run_span_id
from tests.harness.tracing.collector import CollectedSpan, Collector
from tests.system.embedded import up, wait_until

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{ABOVE}-00"
PARTS = {
    "saccade-gateway": {"POST /v1/jobs", "publish job.submitted"},
    "saccade-dispatcher": {"wait for a worker", "decide", "launch", "publish job.queued", "publish job.starting"},
    "saccade-worker": {"run scripted", "stage first", "stage second"},
    "saccade-notifier": {"deliver job.started", "deliver job.succeeded"},
}


def submitted(url: str, collector: Collector) -> str:
    asked = {
        "workload": "scripted",
        "inputs": {},
        "params": {"script": ["stage first", "stage second"]},
        "webhook_url": f"{collector.url}/webhook",
    }
    answer = httpx.post(f"{url}/v1/jobs", json=asked, headers={"traceparent": HEADER}, trust_env=False, timeout=30)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def stored_events(url: str, job_id: str) -> list[dict[str, Any]]:
    """Return the envelopes of a job's events, from its event stream."""
    events = []
    with httpx.stream(
        "GET", f"{url}/v1/jobs/{job_id}/events", headers={"last-event-id": "0"}, trust_env=False, timeout=60
    ) as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                events.append(json.loads(line.removeprefix("data:")))
                if events[-1].get("type") == "job.succeeded":
                    break
    return [event for event in events if event.get("type", "").startswith("job.")]


def assert_is_one_tree(spans: list[CollectedSpan]) -> None:
    """Every span is below another one of the trace, up to the client's."""
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans), "no span is exported twice"
    assert [span for span in spans if span.parent_id not in ids | {ABOVE}] == []
    assert [span.name for span in spans if span.parent_id == ABOVE] == ["POST /v1/jobs"]


def test_one_job_is_one_trace(tmp_path: Path) -> None:
    with (
        Collector() as collector,
        up(
            tmp_path / "data",
            WORKER_CATALOG="tests.workers",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_EXPORTER_OTLP_HEADERS="x-team=a%20b",
            SACCADE_ACCESS_LOG="true",
        ) as system,
    ):
        url = system.ready()["url"]
        job_id = submitted(url, collector)
        events = stored_events(url, job_id)
        assert {event["traceparent"].split("-")[1] for event in events} == {TRACE}

        def missing() -> dict[str, set[str]]:
            found = [span for span in collector.spans if span.trace_id == TRACE]
            names = {name: {span.name for span in found if span.service == name} for name in PARTS}
            return {name: lacking for name, parts in PARTS.items() if (lacking := parts - names[name])}

        wait_until(lambda: not missing(), "all spans are exported", 60)
        logs = "".join(path.read_text() for path in (tmp_path / "data").rglob("gateway*.log"))
        assert system.stop() == 0
    spans = [span for span in collector.spans if span.trace_id == TRACE]
    assert_is_one_tree(spans)
    assert all(headers["x-team"] == "a b" for headers in collector.headers)
    by_name = {span.name: span for span in spans}
    run = by_name["run scripted"]
    assert run.attributes["saccade.job_id"] == job_id
    assert run.span_id == run_span_id(run.attributes["saccade.run_id"])
    assert by_name["stage first"].parent_id == by_name["stage second"].parent_id == run.span_id
    assert not any(span.is_error for span in spans)
    # Every webhook has the span of its own delivery, and the body the event's.
    deliveries = {span.span_id for span in spans if span.name.startswith("deliver ")}
    sent = {headers["traceparent"] for headers, _ in collector.webhooks}
    assert {value.split("-")[1] for value in sent} == {TRACE}
    assert deliveries <= {value.split("-")[2] for value in sent}
    assert f'"trace_id": "{TRACE}"' in logs
