"""No event is lost or repeated: random joins, closed connections, killed servers, slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import pytest
from saccade_client import Client, Event

from contracts.events.base import Envelope, Message
from contracts.events.job import JobStageCompleted
from contracts.ids import new_id
from kit.bus.connection import declare, request
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import (
    RUN_ID,
    NotifierProcess,
    Publisher,
    Reader,
    notifier,
    progressed,
    publisher,
    submitted,
    succeeded,
)

pytestmark = pytest.mark.anyio


def stage_completed(number: int, filler_bytes: int = 0) -> JobStageCompleted:
    stage = f"stage-{number}" + "x" * filler_bytes
    return JobStageCompleted(attempt=1, run_id=RUN_ID, stage=stage, duration_s=0)


async def follow(reader: Reader, path: str, last: str, dice: random.Random, cut: float) -> list[str]:
    """Read a stream until 204 or an event of job ``last``, closing its connections at random; return all cursors."""
    got: list[str] = []
    async with asyncio.timeout(40):
        while True:
            with contextlib.suppress(httpx.TransportError):
                async with reader.open(path, got[-1] if got else None) as stream:
                    if stream.status == 204:
                        return got
                    assert stream.status == 200
                    async for block in stream:
                        assert block.event not in {"gap", "snapshot"}, block
                        if block.id:
                            got.append(block.id)
                            if block.json["subject"] == last:
                                return got
                        if dice.random() < cut:
                            break
            await asyncio.sleep(dice.uniform(0, 0.02))


async def stored_cursors(jobs: Publisher, epoch: str, subjects: str) -> list[str]:
    return [f"{epoch}.{stored.sequence}" async for stored in jobs.store.history(0, subjects)]


async def hammer(jobs: Publisher, job_ids: list[str], count: int, dice: random.Random) -> None:
    """Publish many events of these jobs, with progress between, and end every job."""
    for number in range(count):
        await jobs.say(dice.choice(job_ids), stage_completed(number))
        if dice.random() < 0.3:
            await jobs.say(dice.choice(job_ids), progressed(dice.random()))
        if dice.random() < 0.1:
            await asyncio.sleep(dice.uniform(0, 0.02))
    for job_id in job_ids:
        await jobs.say(job_id, succeeded())


async def check_chaos(
    jobs: Publisher, reader: Reader, dice: random.Random, cut: float, meanwhile: Callable[[], None] | None = None
) -> None:
    """Connect and disconnect clients while events are published: each must get all events, in order, once."""
    job_ids = [await jobs.submit() for _ in range(4)]
    for job_id in job_ids:
        await jobs.start(job_id)
    await jobs.submit("rival")
    async with reader.open(f"/v1/jobs/{job_ids[0]}/events") as stream:
        epoch = ((await stream.take(1))[0].id or "").partition(".")[0]
    publishing = asyncio.ensure_future(hammer(jobs, job_ids, 250, dice))
    # A tenant's stream does not end by itself: this job's event is the last one.
    last = new_id("job")
    seeds = [dice.random() for _ in range(16)]
    clients: dict[str, list[asyncio.Task[list[str]]]] = {}
    for number, seed in enumerate(seeds):
        path = "/v1/events?since=3600" if number % 4 == 3 else f"/v1/jobs/{job_ids[number // 4]}/events"
        task = asyncio.ensure_future(follow(reader, path, last, random.Random(seed), cut))
        clients.setdefault(path, []).append(task)
        await asyncio.sleep(dice.uniform(0, 0.05))
        if meanwhile and number in (5, 12):
            await asyncio.to_thread(meanwhile)
    await publishing
    await jobs.say(last, submitted())
    for path, tasks in clients.items():
        subjects = "saccade.evt.local.>" if "since" in path else f"saccade.evt.local.job.{path.split('/')[3]}.*"
        wanted = await stored_cursors(jobs, epoch, subjects)
        for task in tasks:
            assert await task == wanted, path


@pytest.mark.parametrize("ring_events", [16, 4096])
async def test_random_joins_lose_and_repeat_nothing(nats_server: NatsServer, ring_events: int) -> None:
    seed = int(os.urandom(4).hex(), 16)
    print(f"seed {seed}")
    async with (
        publisher(nats_server.settings) as jobs,
        notifier(nats_server.settings, ring_events=ring_events) as reader,
    ):
        await check_chaos(jobs, reader, random.Random(seed), cut=0.05)
        figures = (await reader.http.get("/metrics")).text
    assert "saccade_sse_gaps_total 0.0" in figures
    assert "saccade_sse_streams 0.0" in figures


async def test_a_killed_bus_loses_nothing(nats_server: NatsServer) -> None:
    seed = int(os.urandom(4).hex(), 16)
    print(f"seed {seed}")

    def kill() -> None:
        nats_server.kill()
        time.sleep(0.3)
        nats_server.start()

    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, ring_events=64) as reader:
        await check_chaos(jobs, reader, random.Random(seed), cut=0.005, meanwhile=kill)


async def test_a_killed_notifier_loses_nothing_for_our_client(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs:
        job_id = await jobs.submit()
        await jobs.start(job_id)

        begun = threading.Event()

        def read(client: Client) -> list[Event]:
            events = []
            for event in client.events(job_id):
                events.append(event)
                begun.set()
            return events

        with NotifierProcess(nats_server.settings) as process, Client(process.url) as client:
            reading = asyncio.ensure_future(asyncio.to_thread(read, client))
            assert await asyncio.to_thread(begun.wait, 10)
            for number in range(120):
                await jobs.say(job_id, stage_completed(number))
                if number == 40:
                    process.stop(signal.SIGKILL)
                    await asyncio.to_thread(process.start)
                if number == 80:
                    assert process.stop(signal.SIGTERM) == 0
                    await asyncio.to_thread(process.start)
            await jobs.say(job_id, succeeded())
            events = await asyncio.wait_for(reading, 20)
        cursors = [event.cursor for event in events if event.cursor]
        epoch = cursors[0].partition(".")[0]
        assert cursors == await stored_cursors(jobs, epoch, f"saccade.evt.local.job.{job_id}.*")
        assert events[-1].type == "job.succeeded"


async def test_a_recreated_stream_restarts_the_process_and_causes_a_gap(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs:
        with NotifierProcess(nats_server.settings) as process:
            reader = Reader(process.url)
            old = await jobs.submit()
            async with reader.open(f"/v1/jobs/{old}/events") as stream:
                cursor = (await stream.take(1))[0].id
            await request(jobs.client, "STREAM.DELETE.EVENTS", {})
            await declare(jobs.client)
            nats_server.kill()
            nats_server.start()
            assert process.process
            assert await asyncio.to_thread(process.process.wait, 15) == 75
            process.start()
            new = await jobs.submit()
            async with reader.open(f"/v1/jobs/{new}/events", cursor) as stream:
                blocks = await stream.take(3)
            assert [block.event for block in blocks] == ["gap", "snapshot", "job.submitted"]
            assert blocks[0].json["after"] == cursor
            assert (await reader.http.get(f"/v1/jobs/{old}/events")).status_code == 404
            await reader.http.aclose()


async def test_sigterm_ends_streams_cleanly(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs:
        job_id = await jobs.submit()
        with NotifierProcess(nats_server.settings) as process:
            reader = Reader(process.url)
            async with contextlib.AsyncExitStack() as stack:
                streams = [await stack.enter_async_context(reader.open(f"/v1/jobs/{job_id}/events")) for _ in range(20)]
                for stream in streams:
                    await stream.take(1)
                assert await asyncio.to_thread(process.stop) == 0
                for stream in streams:
                    assert await stream.rest() == []
            await reader.http.aclose()


class SlowClient:
    """A client with a small receive buffer that reads only on demand."""

    def __init__(self, url: str, path: str, cursor: str | None = None) -> None:
        address = urlsplit(url)
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        self.socket.settimeout(10)
        self.socket.connect((address.hostname, address.port))
        resume = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
        self.socket.sendall(f"GET {path} HTTP/1.0\r\nHost: {address.netloc}\r\n{resume}\r\n".encode())

    def __enter__(self) -> SlowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self, until: bytes = b"") -> bytes:
        """Read to the end, or until ``until`` has arrived."""
        got = b""
        with contextlib.suppress(ConnectionError):
            while chunk := self.socket.recv(65536):
                got += chunk
                if until and until in got:
                    break
        return got


def events_in(raw: bytes) -> list[tuple[str | None, str]]:
    """Return (cursor, type) of every complete block."""
    found = []
    for block in raw.partition(b"\r\n\r\n")[2].split(b"\n\n")[:-1]:
        lines = [line for line in block.decode().split("\n") if not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines if line)
        if "data" in fields:
            json.loads(fields["data"])
            found.append((fields.get("id"), fields["event"]))
    return found


async def test_a_slow_client_skips_stale_progress_but_no_state(nats_server: NatsServer) -> None:
    async with (
        publisher(nats_server.settings) as jobs,
        notifier(nats_server.settings, blocked_s=30) as reader,
        contextlib.AsyncExitStack() as stack,
    ):
        job_id = await jobs.submit()
        slow = stack.enter_context(SlowClient(reader.url, f"/v1/jobs/{job_id}/events"))
        await asyncio.to_thread(slow.read, b"job.submitted")
        for number in range(10):
            pad = "p" * 8000
            await asyncio.gather(*(jobs.say(job_id, progressed(number / 10, f"{n} {pad}")) for n in range(50)))
            await jobs.say(job_id, stage_completed(number))
        await jobs.say(job_id, progressed(0.99, "the newest"))
        await asyncio.sleep(0.3)
        raw = await asyncio.to_thread(slow.read, b"the newest")
        await jobs.say(job_id, succeeded())
        raw += await asyncio.to_thread(slow.read)
        events = events_in(b"\r\n\r\n" + raw)
        assert [kind for cursor, kind in events if cursor] == ["job.stage_completed"] * 10 + ["job.succeeded"]
        assert 1 <= sum(kind == "job.progressed" for _, kind in events) < 300
        figures = (await reader.http.get("/metrics")).text
    assert "saccade_sse_conflated_total 0.0" not in figures


async def test_a_client_that_falls_too_far_behind_is_closed_and_resumes(nats_server: NatsServer) -> None:
    async with (
        publisher(nats_server.settings) as jobs,
        notifier(nats_server.settings, backlog_events=50) as reader,
        contextlib.AsyncExitStack() as stack,
    ):
        job_id = await jobs.submit()
        path = f"/v1/jobs/{job_id}/events"
        slow = stack.enter_context(SlowClient(reader.url, path))
        first = await asyncio.to_thread(slow.read, b"\n\n")
        while b"job.submitted" not in first:
            first += await asyncio.to_thread(slow.read, b"\n\n")
        async with reader.open(path) as quick:
            reading = asyncio.ensure_future(quick.take(401))
            for number in range(0, 400, 25):
                await asyncio.gather(*(jobs.say(job_id, stage_completed(number + n, 4000)) for n in range(25)))
            assert len(await reading) == 401, "a slow client must not hold up another"
        figures = (await reader.http.get("/metrics")).text
        assert 'saccade_sse_closed_total{reason="slow"} 1.0' in figures
        got = [cursor for cursor, _ in events_in(first + await asyncio.to_thread(slow.read)) if cursor]
        assert 1 < len(got) < 401
        await jobs.say(job_id, succeeded())
        async with reader.open(path, got[-1]) as stream:
            got += [block.id or "" for block in await stream.rest()]
        assert got == await stored_cursors(jobs, got[0].partition(".")[0], f"saccade.evt.local.job.{job_id}.*")


async def test_a_client_that_stops_reading_is_closed_after_a_while(nats_server: NatsServer) -> None:
    async with (
        publisher(nats_server.settings) as jobs,
        notifier(nats_server.settings, blocked_s=0.3) as reader,
        contextlib.AsyncExitStack() as stack,
    ):
        job_id = new_id("job")
        await jobs.say(job_id, submitted())
        for number in range(60):
            await jobs.say(job_id, stage_completed(number, 20_000))
        stack.enter_context(SlowClient(reader.url, f"/v1/jobs/{job_id}/events"))
        async with asyncio.timeout(10):
            while 'closed_total{reason="slow"} 1.0' not in (await reader.http.get("/metrics")).text:
                await asyncio.sleep(0.05)


async def test_a_session_is_streamed_like_a_job(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        session_id = new_id("ses")

        async def say(verb: str) -> None:
            subject = f"saccade.evt.local.session.{session_id}.{verb}"
            envelope = Envelope(
                id=f"{session_id}.{verb}",
                source="/test",
                type=f"session.{verb}",
                subject=session_id,
                time=datetime.now(UTC),
                tenant="local",
                data={},
            )
            await jobs.store.publish(Message(subject, envelope.id, envelope.model_dump_json().encode()))

        await say("opened")
        async with reader.open(f"/v1/sessions/{session_id}/events") as stream:
            assert (await stream.take(1))[0].event == "session.opened"
            await say("ready")
            await say("stopped")
            assert [block.event for block in await stream.rest()] == ["session.ready", "session.stopped"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl_reads_a_job_to_its_end(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        url = f"{reader.url}/v1/jobs/{job_id}/events"
        curl = await asyncio.create_subprocess_exec(
            "curl", "-sN", "--noproxy", "*", url, stdout=asyncio.subprocess.PIPE
        )
        assert curl.stdout
        first = await asyncio.wait_for(curl.stdout.readuntil(b"\n\n"), 10)
        await jobs.start(job_id)
        await jobs.say(job_id, succeeded())
        rest = await asyncio.wait_for(curl.stdout.read(), 10)
        assert await curl.wait() == 0
        assert [kind for _, kind in events_in(b"\r\n\r\n" + first + rest)] == [
            "job.submitted",
            "job.queued",
            "job.starting",
            "job.started",
            "job.succeeded",
        ]
