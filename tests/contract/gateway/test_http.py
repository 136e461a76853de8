"""The gateway as HTTP: errors as problems, who may call, bodies that are too large, and the process itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.ids import new_id
from contracts.limits import REQUEST_BODY_BYTES
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from services.gateway.aggregates.view import GatewayView
from tests.harness.servers.embedded import (
    SECRET_ACCESS_KEY,
    free_port,
    wait_until_ready,
)
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway, video
from tests.harness.servers.gateway_process import environment, process
from tests.harness.servers.process_output import read_line

Servers = tuple[NatsSettings, S3Settings]
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as found:
        yield found


@pytest.mark.anyio
async def test_every_error_is_a_problem_with_the_request_id(running: RunningGateway):
    nothing = await running.http.get("/v1/nothing")
    assert (nothing.status_code, code_of(nothing)) == (404, "not_found")
    wrong = await running.http.put("/v1/jobs")
    assert (wrong.status_code, code_of(wrong), wrong.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD, POST")
    given = await running.http.get("/v1/jobs/x", headers={"X-Request-Id": "mine-1"})
    assert (code_of(given), given.json()["request_id"]) == ("job_not_found", "mine-1")
    evil = await running.http.get("/v1/jobs/x", headers={"X-Request-Id": "a b\tc"})
    assert evil.json()["request_id"].startswith("req_")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 422),
        (b"\xff\xfe", 400),
        (b"[" * 100_000, 400),
        (b'{"workload": "lap_compare", "priority": 1' + b"0" * 5000 + b"}", 400),
        (b'{"workload": "lap_compare", "params": {"a": NaN}}', 400),
        (b'{"workload": "lap_compare", "params": {"\\ud800": "\\ud800"}}', 422),
        (b'{"workload": "\\ud800"}', 422),
        (b'{"workload": "lap_compare", "inputs": {"\\ud800": "x"}}', 422),
        (b'{"workload": "lap_compare", "metadata": {"a": "\\udfff"}}', 422),
        (b'{"workload": "lap_compare", "metadata": {"\\udfff": "a"}}', 422),
    ],
)
async def test_json_that_is_none_is_refused_with_and_without_a_key(running: RunningGateway, body: bytes, status: int):
    for more in ({}, {"Idempotency-Key": new_id("req")}):
        answer = await running.http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"} | more)
        assert answer.status_code == status, answer.text
        code_of(answer)


@pytest.mark.anyio
async def test_a_large_body_is_refused_before_it_is_parsed(running: RunningGateway):
    body = json.dumps({"workload": "x" * 1_000_000}).encode()
    headers = {"Content-Type": "application/json"}
    declared = await running.http.post("/v1/jobs", content=body, headers=headers)
    assert (declared.status_code, code_of(declared)) == (413, "body_too_large")

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 50_000):
            yield body[start : start + 50_000]

    chunked = await running.http.post("/v1/jobs", content=chunks(), headers=headers)
    assert (chunked.status_code, code_of(chunked)) == (413, "body_too_large")
    just = b'{"workload": "' + b"x" * (REQUEST_BODY_BYTES - 16) + b'"}'
    assert len(just) == REQUEST_BODY_BYTES
    assert (await running.http.post("/v1/jobs", content=just, headers=headers)).status_code == 422


@pytest.mark.anyio
async def test_no_web_page_reaches_an_embedded_gateway(servers: Servers, tmp_path: Path):
    auth = AuthSettings(allowed_origins="https://app.example, http://localhost:5173/", allowed_hosts="box.lan")
    async with running_gateway(*servers, tmp_path, auth=auth) as running:

        async def code(**headers: str) -> str:
            answer = await running.http.get("/v1/jobs", headers=headers)
            return "ok" if answer.status_code == 200 else code_of(answer)

        for host in ("localhost:8080", "127.0.0.1", "[::1]:8080", "box.lan", "LOCALHOST"):
            assert await code(host=host) == "ok", host
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "evil@127.0.0.2x"):
            assert await code(host=host) == "host_not_allowed", host
        for path in ("/metrics", "/health", "/ready"):  # of Prometheus and probes: no page can have these names
            for host in ("10.1.2.3:8081", "[fd00::7]:8081", "gateway:8081"):
                assert (await running.http.get(path, headers={"host": host})).status_code == 200, (path, host)
                assert await code(host=host) == "host_not_allowed", host
            for host in ("evil.example", "gateway.evil.example", "evil.", "", "[::1"):  # DNS rebinding
                answer = await running.http.get(path, headers={"host": host})
                assert code_of(answer) == "host_not_allowed", (path, host)
            page = {"host": "10.1.2.3:8081", "origin": "http://evil.example"}
            assert code_of(await running.http.get(path, headers=page)) == "origin_not_allowed"
        for origin in ("http://127.0.0.1", "https://app.example", "http://localhost:5173"):
            assert await code(origin=origin) == "ok", origin
        for origin in ("http://evil.example", "null", "http://localhost:5174", "https://app.example.evil.example"):
            assert await code(origin=origin) == "origin_not_allowed", origin

        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        preflight = await running.http.options("/v1/jobs", headers=asked)
        assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (204, "https://app.example")
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
        refused = await running.http.get("/v1/jobs/x", headers={"Origin": "https://app.example"})
        assert refused.headers["access-control-allow-origin"] == "https://app.example"
        assert "access-control-allow-credentials" not in refused.headers


@pytest.mark.anyio
async def test_a_key_opens_what_its_scopes_say(servers: Servers, tmp_path: Path):
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "guest", read_only=("guest",)))
    async with running_gateway(*servers, tmp_path, auth=auth) as running:

        async def asked(method: str, authorization: str | None) -> httpx.Response:
            headers = {"Authorization": authorization} if authorization else {}
            body = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 1} if method == "POST" else None
            path = "/v1/uploads" if method == "POST" else "/v1/jobs"
            return await running.http.request(method, path, json=body, headers=headers)

        for wrong in (None, "Bearer", "Bearer acme", "Bearer acme.wrong", "Bearer nobody.secret", "Basic acme.secret"):
            answer = await asked("GET", wrong)
            assert (answer.status_code, code_of(answer)) == (401, "unauthenticated"), wrong
            assert answer.headers["www-authenticate"] == "Bearer"
        assert (await asked("GET", "Bearer guest.secret")).status_code == 200
        forbidden = await asked("POST", "Bearer guest.secret")
        assert (forbidden.status_code, code_of(forbidden)) == (403, "forbidden")
        assert (await asked("POST", "bearer acme.secret")).status_code == 201
        assert (await running.http.get("/health")).status_code == 200

        stamp = time.time() + 5
        keys_file(tmp_path, "fresh")
        os.utime(tmp_path / "keys.json", (stamp, stamp))
        assert (await asked("GET", "Bearer fresh.secret")).status_code == 200
        assert (await asked("GET", "Bearer acme.secret")).status_code == 401
        (tmp_path / "keys.json").write_text("{ broken")
        assert (await asked("GET", "Bearer fresh.secret")).status_code == 200
        assert "security" in (await running.http.get("/openapi.json")).json()["paths"]["/v1/jobs"]["get"]


@pytest.mark.anyio
async def test_it_says_what_it_is_and_how_it_is(running: RunningGateway):
    health = (await running.http.get("/health")).json()
    assert (health["status"], health["service"]) == ("degraded", "gateway")
    assert {name: one["status"] for name, one in health["checks"].items()} == {
        "nats": "ok", "events": "ok", "bucket": "ok", "dispatcher": "failed",
    }  # fmt: skip
    events = (await running.http.get("/asyncapi.json")).json()
    assert events["asyncapi"].startswith("3.")
    document = (await running.http.get("/openapi.json")).json()
    assert "job.submitted" in json.dumps(events)
    assert document["components"]["schemas"]["Problem"]["properties"]["code"]
    page = (await running.http.get("/docs")).text
    assert "/openapi.json" in page
    assert "https://" not in page
    operation = document["paths"]["/v1/jobs"]["post"]
    assert "application/problem+json" in operation["responses"]["422"]["content"]
    assert "security" not in operation
    await running.http.get(f"/v1/jobs/{new_id('job')}")
    page = (await running.http.get("/metrics")).text
    assert 'saccade_gateway_requests_total{method="GET",route="/v1/jobs/{job_id}",status="404"} 1.0' in page


def test_the_process_serves_stops_and_finds_its_view_again(servers: Servers, tmp_path: Path):
    port = free_port()
    here = f"http://127.0.0.1:{port}"
    clip = video()
    with process(environment(servers, tmp_path, port)) as gateway:
        wait_until_ready(port)
        announced = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(clip)}
        created = httpx.post(f"{here}/v1/uploads", json=announced).json()
        assert "/team/uploads/local/" in created["url"]
        assert httpx.put(created["url"], content=clip, headers=created["headers"]).is_success
        assert httpx.post(f"{here}/v1/uploads/{created['id']}/complete").json()["state"] == "completed"
        body = {"workload": "lap_compare", "inputs": {"reference": created["id"], "other": created["id"]}}
        job = httpx.post(f"{here}/v1/jobs", json=body).json()
        with ThreadPoolExecutor(1) as thread:
            headers = {"Prefer": "wait=50"}
            waiting = thread.submit(httpx.get, f"{here}{job['links']['self']}", headers=headers, timeout=60)
            time.sleep(1.0)
            gateway.send_signal(signal.SIGTERM)
            # Who waits for the job's end is answered, not cut off.
            assert waiting.result(timeout=10).json()["state"] == "submitted"
        _, log = gateway.communicate(timeout=10)
        assert gateway.returncode == 0, log
    assert SECRET_ACCESS_KEY not in log
    view = GatewayView(tmp_path / "data")
    found = view.upload(created["id"])
    view.close()
    assert found
    assert found.completed

    with process(environment(servers, tmp_path, port)) as gateway:
        wait_until_ready(port)
        assert httpx.get(f"{here}/v1/uploads/{created['id']}").json()["state"] == "completed"
        with process(environment(servers, tmp_path / "second", port)) as second:
            _, log = second.communicate(timeout=20)
            assert second.returncode == 1
            assert f"Port {port} on 127.0.0.1 is already in use" in log
        with process(environment(servers, tmp_path, free_port())) as second:
            _, log = second.communicate(timeout=20)
            assert second.returncode == 1
            assert "GATEWAY_DATA_DIR" in log


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"GATEWAY_HOST": "0.0.0.0"}, "SACCADE_API_KEYS_FILE"),
        ({"GATEWAY_DATA_DIR": "/proc/no/folder"}, "GATEWAY_DATA_DIR"),
        ({"GATEWAY_PORT": "none"}, "GATEWAY_PORT: "),
        ({"NATS_PASSWORD": "change-me"}, "NATS_PASSWORD: it is still the placeholder"),
        ({"S3_SECRET_ACCESS_KEY": "change-me"}, "S3_SECRET_ACCESS_KEY: it is still the placeholder"),
        ({"NOTIFIER_TICKET_KEY": "change-me-change-me"}, "NOTIFIER_TICKET_KEY"),
        ({"SACCADE_API_KEYS_FILE": "/no/such/file"}, "SACCADE_API_KEYS_FILE: /no/such/file does not exist"),
        # What a container engine makes of a mount whose file is missing.
        ({"SACCADE_API_KEYS_FILE": "/proc/self"}, "SACCADE_API_KEYS_FILE: /proc/self is a folder; remove it and"),
    ],
)
def test_what_is_set_wrong_is_one_line_that_says_what_to_do(
    servers: Servers, tmp_path: Path, more: dict[str, str], said: str
):
    with process(environment(servers, tmp_path, free_port(), **more)) as gateway:
        _, log = gateway.communicate(timeout=20)
    errors: list[dict[str, Any]] = [json.loads(line) for line in log.splitlines() if '"error"' in line]
    assert gateway.returncode == 1
    assert len(errors) == 1, log
    assert said in errors[0]["message"]
    assert "exception" not in errors[0]


def test_it_waits_for_the_bus_and_can_be_stopped_meanwhile(servers: Servers, tmp_path: Path):
    away = NatsSettings(url=f"nats://127.0.0.1:{free_port()}")
    with process(environment((away, servers[1]), tmp_path, free_port())) as gateway:
        assert gateway.stderr
        assert "Connect call failed" in read_line(gateway.stderr)
        time.sleep(0.5)
        gateway.send_signal(signal.SIGINT)
        _, more = gateway.communicate(timeout=30)
    assert (gateway.returncode, more) == (0, "")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "path",
    ["/health", "/v1/jobs", "/v1/workloads", "/openapi.json", "/docs", "/favicon.ico", "/metrics", "/v1/none"],
)
async def test_head_answers_as_get_without_the_body(running: RunningGateway, path: str):
    head, get = await running.http.head(path), await running.http.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert (get.status_code == 200) == (path != "/v1/none")
    assert "HEAD" in (await running.http.delete("/v1/jobs")).headers["allow"]


def test_the_service_never_loads_a_decoder():
    probe = (
        "import sys, services.gateway.app, services.gateway.__main__, modal_workers.catalog as catalog;"
        "catalog.workloads();"
        "print([name for name in ('av', 'numpy', 'cv2', 'torch', 'modal', 'matplotlib') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert found.stdout.strip() == "[]"
