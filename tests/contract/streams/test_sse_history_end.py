"""The comment line behind a stream's history, and the ones while it is being read."""

from __future__ import annotations

import asyncio

import pytest

from contracts.ids import new_id
from services.notifier.streams.sse import LIVE, READING
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import notifier, progressed, publisher, submitted, succeeded
from tests.harness.streams.raw_client import wire

pytestmark = pytest.mark.anyio


async def test_a_comment_line_stands_behind_the_history_and_before_what_is_live(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        await jobs.say(job_id, progressed(0.5))
        async with wire(reader.url, f"/v1/jobs/{job_id}/events") as stream, asyncio.timeout(20):
            while b"job.progressed" not in stream.body:
                await stream.read_chunk()
            await jobs.say(job_id, succeeded())
            await stream.read_to_end()
    before, _, after = bytes(stream.body).partition(LIVE)
    assert before.count(b"event: ") == 4
    assert [line for line in after.split(b"\n") if line.startswith(b"event: ")] == [
        b"event: job.progressed",
        b"event: job.succeeded",
    ]
    assert LIVE not in after


async def test_a_client_that_reads_slowly_gets_it_after_the_history(nats_server: NatsServer) -> None:
    limits = {"blocked_s": 30.0, "backlog_bytes": 2**24}
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, **limits) as reader:
        for _ in range(20):
            await jobs.say(new_id("job"), submitted("x" * 60_000))
        async with wire(reader.url, "/v1/events?since=3600", receive_buffer_bytes=4096) as stream:
            async with asyncio.timeout(20):
                while LIVE not in stream.body:
                    assert await stream.read_chunk()
    assert bytes(stream.body).partition(LIVE)[0].count(b"event: job.submitted") == 20


async def test_a_history_without_a_wanted_event_is_not_silent_while_it_is_read(nats_server: NatsServer) -> None:
    """A client takes a stream that is silent for 45 s for a broken one, and would begin again for ever."""
    options = {"heartbeat_s": 0.01, "ring_events": 1}
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, **options) as reader:
        for _ in range(20):
            await asyncio.gather(*(jobs.submit() for _ in range(100)))
        async with wire(reader.url, "/v1/events?since=3600&types=job.failed") as stream, asyncio.timeout(20):
            while LIVE not in stream.body:
                assert await stream.read_chunk()
    assert READING in bytes(stream.body).partition(LIVE)[0]
