"""A gateway over a long history: it answers at once that it is alive and how far it is, and everything else later."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import httpx
import pytest

from kit.settings import NatsSettings, S3Settings
from services.gateway.aggregates.view import GatewayView
from tests.harness.history.restored_history import restore_jobs
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port
from tests.harness.servers.gateway import code_of
from tests.harness.servers.gateway_process import environment, process

pytestmark = pytest.mark.anyio
#: Some seconds of folding.
JOBS = 20_000


@asynccontextmanager
async def gateway(servers: tuple[NatsSettings, S3Settings], folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run a gateway, until it is killed, that answers /health; it may still be reading its history."""
    port = free_port()
    url = f"http://{HOST}:{port}"
    with process(environment(servers, folder, port)) as started:
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            await until(http, "/health", lambda answer: "view" not in answer.json()["checks"])
            assert started.poll() is None
            yield http


async def until(http: httpx.AsyncClient, path: str, holds: Callable[[httpx.Response], bool]) -> httpx.Response:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            answer = await http.get(path)
        except httpx.TransportError:
            continue
        if holds(answer):
            return answer
    raise TimeoutError(path)


async def test_it_answers_at_once_and_is_ready_when_the_history_is_read(tmp_path: Path, s3_server: EmbeddedS3) -> None:
    (tmp_path / "nats").mkdir()
    with EmbeddedNats(tmp_path / "nats") as nats:
        servers = (nats.settings, s3_server.settings)
        await restore_jobs(nats.settings, JOBS)
        async with gateway(servers, tmp_path) as http:
            await check_that_it_refuses(http)
        # Killed in the middle.
        async with gateway(servers, tmp_path) as http:
            percents = await percents_until_ready(http)
            assert percents == sorted(percents)
            listed = await http.get("/v1/jobs?limit=200")
            assert (listed.status_code, len(listed.json()["data"])) == (200, 200)
            assert (await http.get("/ready")).json() == {"status": "ready", "service": "gateway"}
            counted = (await http.get("/metrics")).text
            assert f'saccade_gateway_unfinished_jobs{{state="submitted"}} {JOBS}.0' in counted, counted[-500:]
        # Killed when it was ready: its file has most of the history.
        view = GatewayView(tmp_path / "data")
        assert view.sequence > 0
        view.close()
        async with gateway(servers, tmp_path) as http:
            await until(http, "/ready", lambda answer: answer.is_success)
            assert (await http.get("/v1/jobs?limit=1")).status_code == 200


async def check_that_it_refuses(http: httpx.AsyncClient) -> None:
    """Check what a gateway says that reads its history."""
    answers = [
        await http.get("/ready"),
        await http.get("/v1/jobs"),
        await http.post("/v1/jobs", json={"workload": "nerf", "inputs": {}}),
        await http.get("/compat/vision/health"),
        await http.get("/docs"),
    ]
    for answer in answers:
        assert (answer.status_code, code_of(answer)) == (503, "starting"), answer.url
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["retryable"] is True
    assert "% of stream EVENTS is read" in answers[0].json()["missing"]["view"]
    assert (await http.get("/metrics")).status_code == 200
    assert (await http.head("/ready")).status_code == 503
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{http.base_url}/v1/sessions/ses_1/stream")
    assert refused.value.status == 503, "not 403: the client comes back"
    assert (await http.get("/health")).json()["checks"]["nats"]["status"] == "ok"
    assert (await http.get("/ready")).status_code == 503, "the history is too short for this test"


async def percents_until_ready(http: httpx.AsyncClient) -> list[int]:
    """Wait until a gateway is ready, and return how far it was each time."""
    percents: list[int] = []

    def is_ready(answer: httpx.Response) -> bool:
        if answer.status_code == 503 and "%" in answer.json()["missing"]["view"]:
            percents.append(int(answer.json()["missing"]["view"].partition(" %")[0]))
        return answer.is_success

    await until(http, "/ready", is_ready)
    return percents
