"""SSE connection after it replaced the HTTP protocol: framing, end, and unexpected bytes from the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from kit.auth.api_keys import AuthSettings
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import Reader, interrupted, notifier, publisher, succeeded
from tests.harness.streams.raw_client import wire

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example.com"


async def until(reader: Reader, holds: Callable[[str], bool]) -> None:
    """Wait until the notifier's metrics satisfy a condition."""
    async with asyncio.timeout(10):
        while not holds((await reader.http.get("/metrics")).text):
            await asyncio.sleep(0.02)


def open_streams(count: int) -> Callable[[str], bool]:
    return lambda figures: f"saccade_sse_streams {count}.0" in figures


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_the_body_is_framed_by_the_http_version(nats_server: NatsServer, version: str) -> None:
    auth = AuthSettings(allowed_origins=(ORIGIN,))
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, auth) as reader:
        job_id = await jobs.submit()
        path = f"/v1/jobs/{job_id}/events"
        async with wire(reader.url, path, f"Origin: {ORIGIN}", version=version) as stream:
            assert stream.status == 200
            assert stream.chunked == (version == "1.1")
            assert stream.header("content-type") == "text/event-stream; charset=utf-8"
            assert stream.header("connection") == "close"
            assert stream.header("access-control-allow-origin") == ORIGIN
            assert stream.header("cache-control") == "no-store"
            await stream.read_until(b"event: job.submitted\n")
            await jobs.start(job_id)
            await stream.read_until(b"event: job.started\n")
            await jobs.say(job_id, succeeded())
            await stream.read_to_end()
            assert stream.whole
            assert stream.body.startswith(b":\nretry: ")
            assert stream.body.count(b"retry: ") == 1
            assert len(stream.cursors) == 5
            assert await stream.reader.read() == b"", "nothing after the end, and the connection is closed"
        await until(reader, open_streams(0))


async def test_what_a_client_sends_after_its_request_is_ignored(nats_server: NatsServer) -> None:
    """A second request in the same packet, one that comes later, and a body that never ends."""
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        path = f"/v1/jobs/{job_id}/events"
        next_request = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        async with (
            wire(reader.url, path, more=next_request) as pipelined,
            wire(reader.url, path, "Content-Length: 1000", more=b"only this") as unfinished,
            wire(reader.url, path) as talking,
        ):
            streams = (pipelined, unfinished, talking)
            for stream in streams:
                await stream.read_until(b"event: job.submitted\n")
            talking.writer.write(next_request)
            await jobs.start(job_id)
            await jobs.say(job_id, succeeded())
            for stream in streams:
                await stream.read_to_end()
                assert stream.whole
                assert len(stream.cursors) == 5
                with contextlib.suppress(ConnectionError):  # what is closed with words unread is reset
                    assert await stream.reader.read() == b""


async def test_only_a_client_that_sends_too_much_is_disconnected(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        path = f"/v1/jobs/{job_id}/events"
        async with wire(reader.url, path) as talking, wire(reader.url, path) as listening:
            await listening.read_until(b"event: job.submitted\n")
            await until(reader, open_streams(2))
            with contextlib.suppress(ConnectionError):
                for _ in range(64):
                    talking.writer.write(b"x" * 65536)
                    await talking.writer.drain()
            await until(reader, open_streams(1))
            await jobs.start(job_id)
            await listening.read_until(b"event: job.started\n")
            await talking.read_to_end()
            assert not talking.whole


async def test_head_of_a_stream_ends_after_its_head(nats_server: NatsServer) -> None:
    async with notifier(nats_server.settings) as reader:
        for path, kind in (("/v1/events", "text/event-stream; charset=utf-8"), ("/health", "application/json")):
            answer = await reader.http.head(path, timeout=20)
            assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, kind, b"")
        assert "saccade_sse_streams 0.0" in (await reader.http.get("/metrics")).text


async def test_a_connection_serves_requests_before_it_becomes_a_stream(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        async with wire(reader.url, "/health") as connection:
            for _ in range(3):
                length = int(connection.header("content-length") or 0)
                assert b'"status"' in await connection.reader.readexactly(length)
                connection.writer.write(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                await connection.read_head()
            await connection.reader.readexactly(int(connection.header("content-length") or 0))
            connection.writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            await connection.read_head()
            await connection.read_until(b"event: job.submitted\n")


@pytest.mark.parametrize("politely", [True, False])
async def test_a_disconnected_client_is_removed(nats_server: NatsServer, politely: bool) -> None:
    """Closed or reset: detected without a write."""
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        job_id = await jobs.submit()
        async with contextlib.AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(wire(reader.url, f"/v1/jobs/{job_id}/events", more=b"x" * (n % 2)))
                for n in range(20)
            ]
            await until(reader, open_streams(20))
            for stream in streams:
                if politely:
                    stream.writer.close()
                else:
                    stream.writer.transport.abort()
            await until(reader, open_streams(0))
        figures = (await reader.http.get("/metrics")).text
        assert "saccade_sse_closed_total{" not in figures, "no stream was closed by the server"


async def test_a_client_that_disconnects_during_its_history_is_removed(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, ring_events=1) as reader:
        job_id = await jobs.submit()
        for _ in range(66):
            await jobs.say(job_id, interrupted("x" * 60_000))
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(wire(reader.url, f"/v1/jobs/{job_id}/events"))
            await until(reader, open_streams(10))
        await until(reader, open_streams(0))


async def test_a_rotated_stream_ends_completely_and_resumes_by_cursor(nats_server: NatsServer) -> None:
    async with (
        publisher(nats_server.settings) as jobs,
        notifier(nats_server.settings, rotate_s=0.2, heartbeat_s=0.4) as reader,
    ):
        job_id = await jobs.submit()
        cursors: list[str] = []
        for number in range(3):
            resume = [f"Last-Event-ID: {cursors[-1]}"] if cursors else []
            async with wire(reader.url, f"/v1/jobs/{job_id}/events", *resume) as stream:
                if number:
                    await jobs.start(job_id)
                await stream.read_to_end()
                assert stream.whole
                cursors += stream.cursors
        assert len(cursors) == len(set(cursors)) == 7
