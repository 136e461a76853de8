"""Each request has a context; its span and its line of the log say what is needed, and no secret."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from contracts.trace_context import current_traceparent, parse_traceparent
from kit.auth.mapped_credential import KEY_ID
from kit.http.head_requests import HeadRequests
from kit.http.problems import RequestIds
from kit.http.traced_requests import TracedRequests
from kit.logs import JsonLines
from kit.tracing import Recorder, Span, use_recorder

pytestmark = pytest.mark.anyio

SENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def application(*, is_logged: bool = False) -> FastAPI:
    app = FastAPI()
    app.add_middleware(HeadRequests)
    app.add_middleware(TracedRequests, is_logged=is_logged)

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: str, request: Request) -> dict[str, str | None]:
        request.scope.setdefault("state", {})[KEY_ID] = "key-1"
        if job_id == "broken":
            raise RuntimeError(job_id)
        return {"context": current_traceparent()}

    @app.get("/v1/jobs/{job_id}/pages/{ticket}/{name:path}")
    async def page(job_id: str, ticket: str, name: str) -> dict[str, str | None]:
        if name == "broken.html":
            raise RuntimeError(name)
        return {}

    @app.get("/health")
    async def health() -> dict[str, str | None]:
        return {"context": current_traceparent()}

    return app


async def get(app: Any, path: str = "/v1/jobs/job_1", method: str = "GET", **headers: str) -> Any:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://saccade") as client:
        answer = await client.request(method, path, headers=headers)
        return answer.json() if answer.status_code == 200 and method == "GET" else None


async def test_a_context_is_passed_on_as_it_came():
    assert (await get(application(), traceparent=SENT))["context"] == SENT
    assert current_traceparent() is None


async def test_without_a_valid_one_a_trace_begins():
    app = application()
    found = [(await get(app, **headers))["context"] for headers in ({}, {"traceparent": "00-nonsense"})]
    assert all(parse_traceparent(context) for context in found)
    assert len(set(found)) == 2


async def test_monitoring_is_left_alone(recorded: list[Span]):
    assert (await get(application(), "/health"))["context"] is None
    assert recorded == []


async def test_a_span_has_the_route_and_is_below_the_client_s(recorded: list[Span]):
    context = parse_traceparent((await get(application(), "/v1/jobs/job_1?ticket=secret", traceparent=SENT))["context"])
    assert context is not None
    assert len(recorded) == 1
    assert (recorded[0].name, recorded[0].kind, recorded[0].parent_id) == (
        "GET /v1/jobs/{job_id}", "server", "00f067aa0ba902b7",
    )  # fmt: skip
    assert recorded[0].context == context
    assert context.flags == 1
    assert recorded[0].attributes["http.response.status_code"] == 200
    assert "secret" not in repr(recorded)


async def test_a_trace_that_begins_has_no_span_above_and_a_failure_is_seen(recorded: list[Span]):
    await get(application(), "/v1/jobs/broken")
    assert [(span.parent_id, span.error) for span in recorded] == [(None, "500")]


async def test_what_is_not_sampled_keeps_the_client_s_context(recorded: list[Span]):
    use_recorder(Recorder(recorded.append, ratio=0.0))
    assert (await get(application(), traceparent=SENT))["context"] == SENT
    assert recorded == []


async def test_the_ticket_in_a_page_s_path_is_not_logged_even_when_it_fails(caplog: pytest.LogCaptureFixture):
    app = RequestIds(application(is_logged=True))
    with caplog.at_level(logging.INFO):
        await get(app, "/v1/jobs/job_1/pages/one.secret/report/index.html")
        await get(app, "/v1/jobs/job_1/pages/one.secret/broken.html")
    records = [record for record in caplog.records if record.name != "httpx"]
    lines = [json.loads(JsonLines("gateway").format(record)) for record in records]
    paths = [line["path"] for line in lines]
    assert paths == [f"/v1/jobs/job_1/pages/-/{name}" for name in ("report/index.html", "broken.html", "broken.html")]
    assert "secret" not in json.dumps(lines)


async def test_the_log_has_ids_and_no_secrets(caplog: pytest.LogCaptureFixture):
    app = application(is_logged=True)
    with caplog.at_level(logging.INFO, logger="access"):
        await get(app, "/v1/jobs/job_1?ticket=secret", authorization="Bearer key-1.secret", traceparent=SENT)
        await get(app, "/v1/jobs/job_2", method="HEAD")
        await get(app, "/health")
    lines = [json.loads(JsonLines("gateway").format(record)) for record in caplog.records if record.name == "access"]
    assert "secret" not in json.dumps(lines)
    assert [line["message"] for line in lines] == ["GET /v1/jobs/job_1 200", "HEAD /v1/jobs/job_2 200"]
    assert lines[0]["trace_id"] == SENT[3:35]
    assert (lines[0]["key_id"], lines[0]["route"], lines[0]["status"]) == ("key-1", "/v1/jobs/{job_id}", 200)
    assert lines[0]["request_id"].startswith("req_")
    assert lines[1]["key_id"] == "key-1"
