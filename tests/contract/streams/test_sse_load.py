"""Many concurrent streams: stalled clients use bounded memory and delay no other; a stopping notifier ends every stream
completely, so that its client resumes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket

import httpx
import psutil
import pytest

from contracts.events.job import JobStageCompleted
from kit.bus.connection import epoch_of
from tests.harness.servers.embedded import HOST, NatsServer
from tests.harness.streams.notifier import RUN_ID, NotifierProcess, Publisher, publisher, succeeded
from tests.harness.streams.raw_client import RawConnection, follow, wire

pytestmark = pytest.mark.anyio

STALLED = 100
EVENT_BYTES = 20_000
EVENTS = 150


def stage_completed(number: int, filler_bytes: int = 0) -> JobStageCompleted:
    stage = f"stage-{number}" + "x" * filler_bytes
    return JobStageCompleted(attempt=1, run_id=RUN_ID, stage=stage, duration_s=0)


def stalled_client(port: int, path: str) -> socket.socket:
    """Open a stream and never read from it."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((HOST, port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
    return client


async def figure(url: str, name: str) -> float:
    async with httpx.AsyncClient(trust_env=False) as http:
        found = re.search(rf"^{re.escape(name)} (\S+)$", (await http.get(f"{url}/metrics")).text, re.MULTILINE)
    return float(found[1]) if found else 0.0


async def until_open(url: str, count: int) -> None:
    async with asyncio.timeout(20):
        while await figure(url, "saccade_sse_streams") != count:
            await asyncio.sleep(0.05)


async def test_stalled_clients_use_little_memory_and_delay_no_other(nats_server: NatsServer) -> None:
    path = "/v1/events?types=job.stage_completed"
    patient = {"NOTIFIER_BLOCKED_S": "600", "NOTIFIER_RING_BYTES": "1000000"}
    async with publisher(nats_server.settings) as jobs:
        with NotifierProcess(nats_server.settings, **patient) as notifier, contextlib.ExitStack() as clients:
            assert notifier.process
            process = psutil.Process(notifier.process.pid)
            job_id = await jobs.submit()
            async with wire(notifier.url, path) as listening:
                for _ in range(STALLED):
                    clients.enter_context(stalled_client(notifier.port, path))
                await until_open(notifier.url, STALLED + 1)
                before_bytes = process.memory_info().rss
                for number in range(EVENTS):
                    await jobs.say(job_id, stage_completed(number, EVENT_BYTES))
                    await listening.read_until(f"stage-{number}x".encode())  # although none of the others reads
                grown_bytes = process.memory_info().rss - before_bytes
            assert await figure(notifier.url, "saccade_sse_streams") == STALLED, "all of them still wait"
            backlog_bytes = EVENTS * EVENT_BYTES
            print(f"grown by {grown_bytes} bytes")
            assert grown_bytes < 10 * backlog_bytes, "what waits for all of them is kept about once, not for each"


async def test_clients_that_stall_in_different_places_of_the_history_use_little_memory(nats_server: NatsServer) -> None:
    events, stalled = 300, 30
    async with publisher(nats_server.settings) as jobs:
        job_id = await jobs.submit()
        for number in range(events):
            await jobs.say(job_id, stage_completed(number, 60_000))
        epoch, _ = await epoch_of(jobs.client, "EVENTS")
        with (
            NotifierProcess(nats_server.settings, NOTIFIER_BLOCKED_S="600") as notifier,
            contextlib.ExitStack() as clients,
        ):
            assert notifier.process
            process = psutil.Process(notifier.process.pid)
            await until_open(notifier.url, 0)
            before_bytes = process.memory_info().rss
            for position in range(stalled):
                path = f"/v1/events?last_event_id={epoch}.{position}"
                clients.enter_context(stalled_client(notifier.port, path))
            await until_open(notifier.url, stalled)
            grown_bytes = 0
            for _ in range(30):
                await asyncio.sleep(0.2)
                grown_bytes = max(grown_bytes, process.memory_info().rss - before_bytes)
            assert grown_bytes < 60e6, f"{stalled} stalled clients hold {grown_bytes / 1e6:.0f} MB"
            assert await figure(notifier.url, "saccade_sse_streams") == stalled, "history was read too slowly"


async def test_stalled_clients_beyond_the_backlog_limit_are_closed(nats_server: NatsServer) -> None:
    path = "/v1/events?types=job.stage_completed"
    patient = {"NOTIFIER_BLOCKED_S": "600", "NOTIFIER_BACKLOG_BYTES": "1000000"}
    async with publisher(nats_server.settings) as jobs:
        with NotifierProcess(nats_server.settings, **patient) as notifier, contextlib.ExitStack() as clients:
            job_id = await jobs.submit()
            for _ in range(STALLED):
                clients.enter_context(stalled_client(notifier.port, path))
            await until_open(notifier.url, STALLED)
            for number in range(EVENTS):
                await jobs.say(job_id, stage_completed(number, EVENT_BYTES))
            await until_open(notifier.url, 0)
            assert await figure(notifier.url, 'saccade_sse_closed_total{reason="slow"}') == STALLED


async def test_many_streams_of_a_tenant_get_each_event_once_in_order_also_those_that_open_meanwhile(
    nats_server: NatsServer,
) -> None:
    """More streams than are sent to at once, so that streams open while an event is sent to the others."""
    path = "/v1/events?types=job.stage_completed"
    async with publisher(nats_server.settings) as jobs, contextlib.AsyncExitStack() as clients:
        with NotifierProcess(nats_server.settings) as notifier:
            job_id = await jobs.submit()
            open_first = [await clients.enter_async_context(wire(notifier.url, path)) for _ in range(200)]
            await until_open(notifier.url, 200)
            opening = asyncio.ensure_future(open_one_by_one(clients, notifier.url, f"{path}&since=3600"))
            for number in range(100):
                await jobs.say(job_id, stage_completed(number))
            for stream in (*open_first, *await opening):
                await stream.read_until(b"stage-99")
                found = [int(number) for number in re.findall(rb"stage-(\d+)", bytes(stream.body))]
                assert found == list(range(100))


async def open_one_by_one(clients: contextlib.AsyncExitStack, url: str, path: str) -> list[RawConnection]:
    return [await clients.enter_async_context(wire(url, path)) for _ in range(30)]


async def publish_slowly(jobs: Publisher, job_id: str, count: int) -> None:
    for number in range(count):
        await jobs.say(job_id, stage_completed(number))
        await asyncio.sleep(0.02)


async def test_a_stopping_notifier_ends_each_stream_completely_and_each_client_resumes(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        with NotifierProcess(nats_server.settings) as notifier:
            following = [
                asyncio.ensure_future(follow(notifier.url, f"/v1/jobs/{job_id}/events", hurry=0.1)) for _ in range(150)
            ]
            await until_open(notifier.url, 150)
            publishing = asyncio.ensure_future(publish_slowly(jobs, job_id, 60))
            await asyncio.sleep(0.2)
            assert await asyncio.to_thread(notifier.stop) == 0
            await asyncio.to_thread(notifier.start)
            await publishing
            await jobs.say(job_id, succeeded())
            stored = [stored.sequence async for stored in jobs.store.history(0, f"saccade.evt.local.job.{job_id}.*")]
            for task in following:
                cursors, ends = await task
                assert [int(cursor.partition(".")[2]) for cursor in cursors] == stored
                assert all(ends), "no stream was cut"
