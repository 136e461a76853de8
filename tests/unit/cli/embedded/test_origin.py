"""The reverse proxy forwards requests and answers unchanged and unbuffered, and answers for unavailable services."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from cli.embedded.origin import Origin, upstream_of
from cli.embedded.ports import LOOPBACK, listen
from tests.harness.servers.embedded import free_port

JOB = "job_0198c0de-0000-7000-8000-000000000000"


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/events", "notifier"),
        ("/v1/events/", "notifier"),
        ("/v1/tickets", "notifier"),
        (f"/v1/jobs/{JOB}/events", "notifier"),
        ("/v1/sessions/ses_x/events", "notifier"),
        (f"/v1/jobs/{JOB}", "gateway"),
        (f"/v1/jobs/{JOB}/artifacts/events", "gateway"),
        ("/v1/jobs/a/b/events", "gateway"),
        ("/v1/eventsource", "gateway"),
        ("/v1/runs/run_x", "gateway"),
        ("/v1/runs/run_x/events", "gateway"),
        ("/health", "gateway"),
        ("/v1/sessions/ses_x/stream", "gateway"),
    ],
)
def test_each_path_has_one_service(path: str, service: str) -> None:
    assert upstream_of(path) == service


class Upstream:
    """A service that shows what reached it."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.release = asyncio.Event()
        self.peers: set[object] = set()
        self.refusal = 0
        app = web.Application(client_max_size=0)
        app.router.add_get("/v1/events", self.stream)
        app.router.add_post("/v1/uploads", self.echo)
        app.router.add_get("/v1/sessions/{id}/stream", self.websocket)
        app.router.add_get("/v1/cut", self.cut)
        app.router.add_route("*", "/{path:.*}", self.show)
        self.app = app

    async def show(self, request: web.Request) -> web.Response:
        assert request.transport
        self.peers.add(request.transport.get_extra_info("peername"))
        facts = {"target": request.raw_path, "method": request.method, "headers": dict(request.headers)}
        return web.json_response(facts, headers={"X-One": "1", "Connection": "X-One"})

    async def echo(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece)
        return response

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: first\n\n")
        try:
            await self.release.wait()
            await response.write(b"data: second\n\n")
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        return response

    async def cut(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport
        await asyncio.sleep(0.05)
        request.transport.abort()
        return response

    async def websocket(self, request: web.Request) -> web.StreamResponse:
        if self.refusal:
            return web.Response(status=self.refusal)
        socket = web.WebSocketResponse(protocols=("saccade.v1",))
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            else:
                await socket.send_bytes(message.data[::-1])
                await socket.close(code=4001)
        return socket


@asynccontextmanager
async def origin_of(upstream: Upstream | None) -> AsyncIterator[str]:
    """Run an origin before one upstream, or before none."""
    runner = None
    port = free_port()
    if upstream:
        runner = web.AppRunner(upstream.app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, port).start()
    base = f"http://{LOOPBACK}:{port}"
    origin = Origin({"gateway": base, "notifier": base})
    listener = listen(LOOPBACK, 0)
    await origin.start(listener)
    try:
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
    finally:
        await origin.close()
        if runner:
            await runner.cleanup()


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/%6detrics"])
async def test_figures_for_operators_are_closed_to_the_outside(path: str) -> None:
    async with (
        origin_of(Upstream()) as url,
        aiohttp.ClientSession() as client,
        client.get(URL(url + path, encoded=True)) as answer,
    ):
        assert answer.status == 404
        assert (await answer.json(content_type=None))["code"] == "not_found"


@pytest.mark.anyio
async def test_target_and_headers_arrive_unchanged_and_connections_are_kept() -> None:
    upstream = Upstream()
    async with origin_of(upstream) as url, aiohttp.ClientSession() as session:
        for _ in range(5):
            headers = {"Host": "robot.local:8080", "X-Mine": "yes", "Connection": "X-Private", "X-Private": "no"}
            target = "/v1/jobs/a%2Fb?x=%20y&x=2"
            async with session.delete(url + target, headers=headers) as answer:
                facts = await answer.json()
        assert facts["method"] == "DELETE"
        assert facts["target"] == target
        assert facts["headers"]["Host"] == "robot.local:8080"
        assert facts["headers"]["X-Mine"] == "yes"
        assert "X-Private" not in facts["headers"]
        assert "X-One" not in answer.headers
        assert len(upstream.peers) == 1


@pytest.mark.anyio
async def test_a_body_larger_than_memory_should_hold_streams_both_ways() -> None:
    upstream = Upstream()
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            yield b"x" * 1_000_000
            sent += 1_000_000

    async with origin_of(upstream) as url, aiohttp.ClientSession() as session:
        async with session.post(url + "/v1/uploads", data=pieces()) as answer:
            received = 0
            first_seen_at = None
            async for piece in answer.content.iter_any():
                first_seen_at = sent if first_seen_at is None else first_seen_at
                received += len(piece)
        assert received == sent == 64_000_000
        assert first_seen_at is not None
        assert first_seen_at < sent / 2, "the answer waited for the whole body"


@pytest.mark.anyio
async def test_an_event_stream_is_not_held_back_and_ends_upstream_when_its_reader_leaves() -> None:
    upstream = Upstream()
    async with origin_of(upstream) as url, aiohttp.ClientSession() as session:
        async with session.get(url + "/v1/events") as answer:
            assert await asyncio.wait_for(answer.content.readline(), 5) == b"data: first\n"
            upstream.release.set()
            await answer.content.readline()
            assert await asyncio.wait_for(answer.content.readline(), 5) == b"data: second\n"
        await asyncio.wait_for(upstream.gone.wait(), 5)


@pytest.mark.anyio
async def test_half_an_answer_does_not_look_whole() -> None:
    async with origin_of(Upstream()) as url, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            async with session.get(url + "/v1/cut") as answer:
                await answer.read()


@pytest.mark.anyio
async def test_websockets_pass_with_protocol_messages_and_close_code() -> None:
    async with (
        origin_of(Upstream()) as url,
        aiohttp.ClientSession() as session,
        session.ws_connect(url + "/v1/sessions/ses_1/stream", protocols=("saccade.v1",)) as socket,
    ):
        assert socket.protocol == "saccade.v1"
        await socket.send_str("text")
        assert await socket.receive_str() == "TEXT"
        await socket.send_bytes(b"\x00\x01")
        assert await socket.receive_bytes() == b"\x01\x00"
        closed = await asyncio.wait_for(socket.receive(), 5)
        assert closed.type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4001


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "unauthenticated"), (403, "forbidden"), (404, "session_not_found"), (400, "cursor_invalid")],
)
async def test_a_websocket_that_is_refused_is_refused_as_it_was(status: int, code: str) -> None:
    upstream = Upstream()
    upstream.refusal = status
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    async with (
        origin_of(upstream) as url,
        aiohttp.ClientSession() as session,
        session.get(url + "/v1/sessions/ses_1/stream", headers=headers) as answer,
    ):
        assert (answer.status, (await answer.json())["code"]) == (status, code)


@pytest.mark.anyio
async def test_a_service_that_is_away_gives_a_problem() -> None:
    async with origin_of(None) as url, aiohttp.ClientSession() as session, session.get(url + "/v1/jobs") as answer:
        assert answer.status == 503
        assert answer.content_type == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await answer.json())["code"] == "service_unavailable"


@pytest.mark.anyio
async def test_a_browsers_event_stream_outlives_a_service_that_is_away() -> None:
    async with origin_of(None) as url, aiohttp.ClientSession() as session:
        for path in ("/v1/events?types=job.*", "/v1/jobs/job_1/events", "/v1/sessions/ses_1/events"):
            async with session.get(url + path) as answer:
                assert (answer.status, answer.content_type) == (200, "text/event-stream")
                assert re.fullmatch(rb":\nretry: \d{4}\n\n", await answer.read())
        async with session.post(url + "/v1/events") as answer:
            assert answer.status == 503
