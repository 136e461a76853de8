"""Whole gateways and snapshots of their view: one is killed while it stores one, one starts while one is fetched."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events import encode
from contracts.events.job import JobCancelled, JobSubmitted
from contracts.ids import new_id
from kit.bucket import open_bucket
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from kit.snapshot_store import SnapshotStore, StoredSnapshot
from services.gateway.snapshots.view_snapshots import SERVICE
from tests.harness.network.holding_proxy import HoldingProxy
from tests.harness.servers.embedded import HOST, NatsServer, S3Server, free_port
from tests.harness.servers.gateway_process import environment, process

pytestmark = pytest.mark.anyio

EVERY = 10
#: It looks at the bucket at once, and not after a minute.
LOOKS_OFTEN = "from services.gateway.snapshots import view_snapshots\nview_snapshots._LOOK_S = 0.1"
_PATIENCE_S = 90.0
_STORES = rb"PUT /[^ ]*snapshots/gateway/[^ ]*zst"
_FETCHES = rb"GET /[^ ]*snapshots/gateway/[^ ]*zst"


class Stage:
    """A bus with events, and a bucket, for gateways that are processes."""

    def __init__(self, nats: NatsSettings, s3: S3Settings, folder: Path, store: EventStore) -> None:
        self._nats, self._s3, self._folder, self._store = nats, s3, folder, store

    @property
    def s3_port(self) -> int:
        """Return the port of the bucket's server."""
        return int(self._s3.endpoint_url.rpartition(":")[2])

    async def submit(self, count: int) -> None:
        """Store events of jobs, every second of which has ended."""
        for number in range(count):
            job_id, deadline = new_id("job"), datetime.now(UTC) + timedelta(hours=1)
            submitted = JobSubmitted(workload="nerf", workload_version="1", inputs={}, params={}, deadline=deadline)
            for data in (submitted, *([JobCancelled(attempt=0)] if number % 2 else [])):
                await self._store.publish(encode(data, tenant="local", subject_id=job_id, source="/test"))

    async def snapshots(self) -> list[StoredSnapshot]:
        """Return what is in the bucket."""
        async with open_bucket(self._s3) as bucket:

            async def opened() -> Any:
                return bucket

            return await SnapshotStore(opened, SERVICE).all()

    @asynccontextmanager
    async def gateway(self, name: str, *, s3_port: int = 0, every: int = EVERY) -> AsyncIterator[httpx.AsyncClient]:
        """Run a gateway with the view's folder of this name, and kill it (SIGKILL) at the end."""
        s3 = self._s3.model_copy(update={"endpoint_url": f"http://{HOST}:{s3_port or self.s3_port}"})
        more = {"B2_PREFIX": "", "GATEWAY_SNAPSHOT_EVENTS": str(every)}
        env = environment((self._nats, s3), self._folder / name, port := free_port(), **more)
        with process(env, before=LOOKS_OFTEN):
            async with httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=30, trust_env=False) as http:
                yield http

    async def answers_of(self, name: str, **given: Any) -> tuple[Mapping[str, Any], str]:
        """Return the lists of a gateway that is ready, and its metrics."""
        async with self.gateway(name, **given) as http:
            await answer_of(http, "/ready", lambda answer: answer.status_code == 200)
            lists = {path: (await http.get(path)).json() for path in ("/v1/jobs?limit=200", "/v1/jobs?state=cancelled")}
            return lists, (await http.get("/metrics")).text


async def answer_of(http: httpx.AsyncClient, path: str, holds: Callable[[httpx.Response], bool]) -> httpx.Response:
    """Wait for an answer."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        try:
            answer = await http.get(path)
        except httpx.TransportError:
            answer = None
        if answer is not None and holds(answer):
            return answer
        await asyncio.sleep(0.05)
    raise TimeoutError(path)


@pytest.fixture
async def stage(nats_server: NatsServer, s3_server: S3Server, tmp_path: Path) -> AsyncIterator[Stage]:
    client = await connect(nats_server.settings, "test")
    await declare(client)
    async with open_bucket(s3_server.settings) as bucket:
        await bucket.create()
    yield Stage(nats_server.settings, s3_server.settings, tmp_path, EventStore(client))
    await client.close()


async def store_one(stage: Stage, name: str) -> StoredSnapshot:
    """Have a gateway store a snapshot."""
    async with stage.gateway(name), asyncio.timeout(_PATIENCE_S):
        while not (found := await stage.snapshots()):
            await asyncio.sleep(0.1)
    return found[0]


@pytest.mark.parametrize("has_earlier", [True, False])
async def test_a_gateway_that_is_killed_while_it_stores_a_snapshot(stage: Stage, has_earlier: bool) -> None:
    await stage.submit(20)
    earlier = [await store_one(stage, "first")] if has_earlier else []
    await stage.submit(20)
    async with (
        HoldingProxy(stage.s3_port, _STORES) as proxy,
        stage.gateway("killed", s3_port=proxy.port),
        asyncio.timeout(_PATIENCE_S),
    ):
        await proxy.held.wait()
    assert await stage.snapshots() == earlier, "half an object is none"
    expected, counted = await stage.answers_of("without any", every=0)
    assert len(expected["/v1/jobs?limit=200"]["data"]) == 40
    assert 'saccade_gateway_snapshots_total{result="used"} 0.0' in counted
    lists, counted = await stage.answers_of("new machine")
    assert lists == expected
    assert f'saccade_gateway_snapshots_total{{result="used"}} {len(earlier)}.0' in counted
    # On its own disk, with what it had written of the snapshot.
    lists, _ = await stage.answers_of("killed")
    assert lists == expected


async def test_a_start_says_that_it_downloads_a_snapshot(stage: Stage) -> None:
    await stage.submit(20)
    stored = await store_one(stage, "first")
    async with HoldingProxy(stage.s3_port, _FETCHES) as proxy, stage.gateway("new", s3_port=proxy.port) as http:
        async with asyncio.timeout(_PATIENCE_S):
            await proxy.held.wait()
        told = f"It downloads the snapshot of the view at event {stored.sequence}: 0.0 of"
        health = await http.get("/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        assert health.json()["checks"]["view"]["detail"].startswith(told)
        ready = await http.get("/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "starting")
        assert ready.json()["missing"]["view"].startswith(told)
        assert int(ready.headers["retry-after"]) > 0
        refused = await http.get("/v1/jobs")
        assert (refused.status_code, refused.json()["code"]) == (503, "starting")
        assert 'saccade_gateway_snapshots_total{result="used"} 0.0' in (await http.get("/metrics")).text
        proxy.go_on.set()
        await answer_of(http, "/ready", lambda answer: answer.status_code == 200)
        assert len((await http.get("/v1/jobs?limit=200")).json()["data"]) == 20
        assert "view" not in (await answer_of(http, "/health", lambda answer: answer.is_success)).json()["checks"]
        counted = (await http.get("/metrics")).text
    assert 'saccade_gateway_snapshots_total{result="used"} 1.0' in counted
    assert f"saccade_gateway_snapshot_sequence {float(stored.sequence)}" in counted
    assert f"saccade_gateway_snapshot_bytes {float(stored.size_bytes)}" in counted
    for name in ("saccade_gateway_snapshot_age_seconds", 'saccade_gateway_snapshot_seconds{operation="fetch"}'):
        found = re.search(rf"^{re.escape(name)} ([0-9.e-]+)$", counted, re.MULTILINE)
        assert found, counted
        assert 0 < float(found[1]) < 600
