"""Nginx with compose's configuration, before two small services: the same answers as the embedded origin."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from contracts.http_routes import RoutedService
from contracts.limits import KIB, MIB
from kit.http.protocol import HttpProtocol, TimeLimits
from tests.harness.servers.embedded import HOST, free_port, wait_for_port
from tests.harness.servers.origin import RunningOrigin, responses, running_origin, shown

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed; compose brings its own"),
]

DEPLOY = Path(__file__).parents[3] / "deploy"
FILES = ("origin.conf", "sse.conf")
#: Short, and small: nginx reads a request that is too large by not much as a whole, and the answer is not reset.
LIMITS = {
    "client_header_timeout 15s": "client_header_timeout 1s",
    "client_body_timeout 15s": "client_body_timeout 1s",
    "large_client_header_buffers 4 64k": "large_client_header_buffers 4 16k",
}
HEAD_BYTES = 16 * KIB


class HastyProtocol(HttpProtocol):
    """The services' protocol with a shorter time for a body."""

    limits = TimeLimits(body_window_s=1.5)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request by 401 without reading its body: an ASGI application."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def nginx(folder: Path, *, up: bool = True, refuses: bool = False) -> AsyncIterator[RunningOrigin]:
    """Run nginx before two services; its port takes the place of the embedded origin's."""
    port = free_port()
    services: dict[RoutedService, Any] = {"gateway": refuse, "notifier": refuse} if refuses else {}
    async with running_origin("gateway", "notifier", protocol=HastyProtocol, services=services) as running:
        at = {name: running.ports[name] if up else free_port() for name in ("gateway", "notifier")}
        text = (DEPLOY / "origin.conf").read_text().replace("listen 8080", f"listen {HOST}:{port}")
        for name in ("gateway", "notifier"):
            text = re.sub(rf"set \${name} \S+;", f"set ${name} {HOST}:{at[name]};", text)
        text = text.replace("/tmp/", f"{folder}/").replace("/etc/saccade/", f"{DEPLOY}/")
        for there, here in (LIMITS | {"resolver 127.0.0.11 valid=2s ipv6=off;": ""}).items():
            assert there in text
            text = text.replace(there, here)
        text = text.replace("access_log /dev/stdout line;", f"access_log {folder}/access.log line;")
        (folder / "nginx.conf").write_text(f"daemon off;\n{text}")
        arguments = ("-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
        process = await asyncio.create_subprocess_exec("nginx", *arguments)
        try:
            await asyncio.to_thread(wait_for_port, port)
            yield RunningOrigin(running.origin, port, running.services, running.stops)
        finally:
            process.terminate()
            await process.wait()


def head(line: str, *headers: str) -> bytes:
    return "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""]).encode()


async def test_paths_and_headers_reach_their_service(tmp_path: Path) -> None:
    async with nginx(tmp_path) as running:
        (facts,) = shown(await running.exchange(head("GET /v1/jobs/a%2Fb?x=%20y")))
        assert (facts["service"], facts["raw_path"], facts["query"]) == ("gateway", "/v1/jobs/a%2Fb", "x=%20y")
        (facts,) = shown(await running.exchange(head("GET /v1/webhooks", "Last-Event-ID: " + "9" * 9000)))
        assert facts["service"] == "notifier"
        assert dict(facts["headers"])["last-event-id"] == "9" * 9000


async def test_both_configurations_say_by_which_scheme_the_client_came() -> None:
    """The name of a browser's cookie depends on it, for event streams too."""
    sent = {(DEPLOY / name).read_text().count("X-Forwarded-Proto $forwarded_proto;") for name in FILES}
    assert sent == {1}


async def test_a_key_or_ticket_in_a_path_is_not_logged_and_a_video_may_be_large(tmp_path: Path) -> None:
    path = "/badminton/k/one.secret/api/storage/upload"
    async with nginx(tmp_path) as running:
        body = bytes(3 * MIB)
        sent = head(f"POST {path}?token=t", f"Content-Length: {len(body)}", "X-Forwarded-Proto: https") + body
        (facts,) = shown(await running.exchange(sent))
        assert (facts["service"], facts["raw_path"], facts["query"]) == ("gateway", path, "token=t")
        assert dict(facts["headers"])["x-forwarded-proto"] == "https"
        await running.exchange(head("POST /badminton-endpoint/k/one.secret/process"))
        await running.exchange(head("GET /compat/vision/k/one.secret/vision/stream?magic_word=secret"))
        for address in ("/v1/jobs/job_1/pages/one.secret/report/index.html", "/v1/jobs/job_1/pages/one.secret/"):
            await running.exchange(head(f"GET {address}?a=secret"))
        (facts,) = shown(await running.exchange(head("GET /badminton/health")))
        assert dict(facts["headers"])["x-forwarded-proto"] == "http"
    log = (tmp_path / "access.log").read_text()
    assert "POST /badminton/k/-/api/storage/upload 200" in log
    assert "POST /badminton-endpoint/k/-/process 200" in log
    assert "GET /compat/vision/k/-/vision/stream 200" in log
    assert "GET /v1/jobs/job_1/pages/-/report/index.html 200" in log
    assert "GET /v1/jobs/job_1/pages/-/ 200" in log
    assert "GET /badminton/health 200" in log
    assert "secret" not in log + (tmp_path / "error.log").read_text()


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (head("GET /metrics"), (404, "not_found")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "malformed_request")),
        (head("GET /", "X: " + "x" * HEAD_BYTES), (431, "head_too_large")),
        (b"GET /" + b"x" * HEAD_BYTES + b" HTTP/1.1\r\n\r\n", (414, "target_too_long")),
        (head("POST /v1/jobs", "Content-Length: 9000000"), (413, "body_too_large")),
    ],
)
async def test_errors_of_nginx_are_problems(tmp_path: Path, request_bytes: bytes, expected: tuple[int, str]) -> None:
    async with nginx(tmp_path) as running:
        ((status, headers, body),) = responses(await running.exchange(request_bytes))
    problem = json.loads(body)
    assert (status, problem["code"]) == expected
    assert problem["status"] == status
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]


async def test_a_client_that_stops_halfway_is_disconnected(tmp_path: Path) -> None:
    async with nginx(tmp_path) as running:
        assert await running.exchange(b"GET / HTTP/1.1\r\nHost") == b""
        received = await running.exchange(head("POST /v1/jobs", "Content-Length: 10") + b"12345")
    assert not received or responses(received)[0][0] == 408


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/webhooks", "/v1/sessions/a/frames"])
async def test_an_answer_does_not_wait_for_the_body(tmp_path: Path, path: str) -> None:
    """As 401 and 413: a caller without a key fills no disk and holds no connection."""
    async with nginx(tmp_path, refuses=True) as running:
        received = await running.exchange(head(f"POST {path}", "Content-Length: 1000"))
    ((status, _, _),) = responses(received)
    assert status == 401


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/webhooks", "/v1/sessions/a/frames"])
async def test_the_services_end_a_body_that_drips_and_nginx_stores_none(tmp_path: Path, path: str) -> None:
    async with nginx(tmp_path) as running:
        reader, writer = await asyncio.open_connection(HOST, running.port)
        # More than nginx keeps in memory, then a byte now and then, before its own time limit.
        writer.write(head(f"POST {path}", f"Content-Length: {MIB}") + bytes(64 * KIB))
        answered = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(20):
            while not answered.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(b"x")
                    await writer.drain()
                assert [found for found in (tmp_path / "body").rglob("*") if found.is_file()] == []
                await asyncio.sleep(0.3)
        writer.close()
        ((status, _, body),) = responses(await answered)
    assert (status, json.loads(body)["code"]) == (408, "request_timeout")
    assert "bytes per second" in json.loads(body)["detail"]


async def test_a_service_that_is_away_gives_a_problem_and_an_event_stream_a_later_try(tmp_path: Path) -> None:
    async with nginx(tmp_path, up=False) as running:
        ((status, headers, body),) = responses(await running.exchange(head("GET /v1/jobs")))
        assert (status, json.loads(body)["code"]) == (503, "service_unavailable")
        assert headers["retry-after"] == "2"
        ((status, headers, _),) = responses(await running.exchange(head("GET /v1/events")))
        assert (status, headers["content-type"]) == (200, "text/event-stream")
