"""A gateway that is killed while it fetches: the next one fetches the file again, whole, and submits the job once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events import decode
from contracts.limits import MIB
from contracts.streams import FETCHES
from kit.bucket import open_bucket
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from tests.harness.network.file_servers import answer, file_server
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3, free_port, wait_until_ready
from tests.harness.servers.gateway import video
from tests.harness.servers.gateway_process import Servers, environment, process

pytestmark = pytest.mark.anyio
#: Two parts of a multipart upload and a rest; the decoder finds the clip at its beginning.
FILE = video() + b"\0\0\0\0free" * (18 * MIB // 8)
SETTINGS = {"GATEWAY_URL_INPUTS": "public", "GATEWAY_URL_ALLOWED_NETWORKS": "127.0.0.1"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats, EmbeddedS3(tmp_path_factory.mktemp("s3")) as s3:
        yield nats.settings, s3.settings


async def test_a_gateway_killed_in_mid_fetch_leaves_one_upload_and_one_job(servers: Servers, tmp_path: Path) -> None:
    """Its client had no answer and does not ask again."""
    stalled, killed = asyncio.Event(), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = answer(FILE)
        if not killed.is_set():  # the whole file, but for its last part
            writer.write(body[: 17 * MIB])
            await writer.drain()
            stalled.set()
            await reader.read()
            return
        writer.write(body)
        await writer.drain()

    port = free_port()
    here = f"http://127.0.0.1:{port}"
    async with file_server(talk) as server:
        inputs = {"reference": {"url": server.url("/a.mp4?token=hush")}, "other": {"url": server.url("/b.mp4")}}
        body = {"workload": "lap_compare", "inputs": inputs, "metadata": {"driver": "A"}}
        with process(environment(servers, tmp_path, port, **SETTINGS)) as gateway:
            await asyncio.to_thread(wait_until_ready, port)
            async with httpx.AsyncClient(base_url=here, timeout=30) as client:
                asking = asyncio.ensure_future(client.post("/v1/jobs", json=body))
                async with asyncio.timeout(20):
                    await stalled.wait()
                    await asyncio.sleep(0.3)
                    gateway.kill()
                    with pytest.raises(httpx.HTTPError):
                        await asking
        killed.set()
        with process(environment(servers, tmp_path, port, **SETTINGS)):
            await asyncio.to_thread(wait_until_ready, port)
            async with httpx.AsyncClient(base_url=here, timeout=30) as client:
                jobs = await _submitted(client)
                assert [job["metadata"] for job in jobs] == [{"driver": "A"}]
                given = [one for many in jobs[0]["inputs"].values() for one in many]
                assert [(one["filename"], one["size_bytes"]) for one in given] == [
                    ("a.mp4", len(FILE)), ("b.mp4", len(FILE)),
                ]  # fmt: skip
                await asyncio.sleep(0.5)  # a second submission would have come by now
    await _check_stored(servers, {one["upload_id"] for one in given})


async def _submitted(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    ends_at = time.monotonic() + 25
    while True:
        jobs: list[dict[str, Any]] = (await client.get("/v1/jobs")).json()["data"]
        if jobs:
            return jobs
        assert time.monotonic() < ends_at
        await asyncio.sleep(0.1)


async def _check_stored(servers: Servers, upload_ids: set[str]) -> None:
    """Check that everything happened once, and that nothing secret and no parts are left."""
    client = await connect(servers[0], "test")
    stored = [event.body async for event in EventStore(client).history(0)]
    types = sorted(decode(body).type for body in stored)
    assert types == ["job.submitted", *["upload.completed"] * 2, *["upload.created"] * 2]
    assert {decode(body).subject for body in stored if b'"upload.c' in body} == upload_ids
    assert not [body for body in stored if b"hush" in body]
    left = [record.body async for record in EventStore(client, FETCHES.name).history(0)]
    assert [record for record in left if b"hush" in record] == []
    await client.close()
    async with open_bucket(servers[1]) as bucket:
        assert len(await bucket.list_keys("team/uploads/")) == 2
        uploads = await bucket._client.list_multipart_uploads(Bucket=servers[1].bucket)
        assert uploads.get("Uploads", []) == []
