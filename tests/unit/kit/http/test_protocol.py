"""A client may take only so long to send a request, and what is no request is answered by a problem."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import connect as connect_websocket

from cli.embedded.ports import LOOPBACK
from contracts.http_routes import RoutedService
from contracts.limits import KIB, REQUEST_HEAD_BYTES
from kit.http.protocol import HttpProtocol, TimeLimits
from tests.harness.servers.origin import WAIT_S, RunningOrigin, ShowingService, responses, running_origin, shown

pytestmark = pytest.mark.anyio

#: Directly, as operators and containers do, and through the origin.
WAYS: list[RoutedService | None] = ["gateway", None]
HEAD = b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD.replace(b"/echo", b"/") + b"Transfer-Encoding: chunked\r\n\r\n"
#: The smallest chunk of a body.
SMALL = b"1\r\nx\r\n"


class Hurried(HttpProtocol):
    """The protocol with short time limits."""

    limits = TimeLimits(head_s=0.3, body_window_s=0.3, body_bytes_per_s=100)


@asynccontextmanager
async def hurried() -> AsyncIterator[RunningOrigin]:
    async with running_origin("gateway", protocol=Hurried) as running:
        yield running


def code(received: bytes) -> tuple[int, str]:
    """Return status and error code of the only response, which closes the connection."""
    ((status, headers, body),) = responses(received)
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["hint"]
    assert problem["request_id"] == headers["x-request-id"]
    return status, problem["code"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "part", [HEAD, HEAD + b"Content-Length: 10\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"]
)
async def test_a_request_that_stops_halfway_is_ended(way: RoutedService | None, part: bytes) -> None:
    async with hurried() as running:
        received = await running.exchange(part.replace(b"/echo", b"/show"), way)
    assert code(received) == (408, "request_timeout")


async def sent_endlessly(first: bytes, piece: bytes) -> bytes:
    """Send ``first``, then ``piece`` every 20 ms; return all that comes until the server ends the connection."""
    async with hurried() as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        writer.write(first)

        async def send() -> None:
            while True:
                writer.write(piece)
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        try:
            return await asyncio.wait_for(reader.read(), WAIT_S)
        finally:
            sending.cancel()
            writer.close()


async def test_a_head_that_comes_drop_by_drop_is_ended() -> None:
    """Every byte comes soon after the one before: the limit is on the whole head."""
    assert code(await sent_endlessly(HEAD, b"X")) == (408, "request_timeout")


async def test_a_body_that_comes_drop_by_drop_is_ended() -> None:
    """Below the rate that is asked for, although bytes come all the time."""
    head = HEAD.replace(b"/echo", b"/show") + b"Content-Length: 100000\r\n\r\n"
    assert code(await sent_endlessly(head, b"x")) == (408, "request_timeout")


async def test_the_rest_of_an_answered_body_has_a_limit_too() -> None:
    with contextlib.suppress(ConnectionError):
        await sent_endlessly(HEAD.replace(b"/echo", b"/early") + b"Content-Length: 100000000\r\n\r\n", b"x" * KIB)


async def test_a_client_that_waits_for_100_continue_waits_as_long_as_the_service() -> None:
    async def late_reader(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.sleep(0.5)
        await service(scope, receive, send)

    service = ShowingService("gateway")
    async with running_origin("gateway", protocol=Hurried, services={"gateway": late_reader}) as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        writer.write(
            HEAD.replace(b"/echo", b"/show") + b"Expect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
        )
        async with asyncio.timeout(WAIT_S):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"abc")
            (facts,) = shown(await reader.read())
        writer.close()
    assert facts["body_bytes"] == 3


async def test_a_body_may_come_slowly() -> None:
    async with hurried() as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        body = b"x" * 60_000
        writer.write(HEAD.replace(b"/echo", b"/show") + b"Connection: close\r\nContent-Length: 60000\r\n\r\n")
        for start in range(0, len(body), 10_000):  # in three windows
            writer.write(body[start : start + 10_000])
            await asyncio.sleep(0.15)
        (facts,) = shown(await asyncio.wait_for(reader.read(), WAIT_S))
        writer.close()
    assert facts["body_bytes"] == 60_000


async def test_a_body_that_the_service_does_not_read_is_no_fault_of_the_client() -> None:
    release = asyncio.Event()

    async def slow_reader(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await release.wait()
        count = 0
        while (message := await receive())["type"] == "http.request":
            count += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
        await send({"type": "http.response.body", "body": b"%7d" % count})

    async with running_origin("gateway", protocol=Hurried, services={"gateway": slow_reader}) as running:
        body = b"x" * (1024 * KIB)
        head = HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        asking = asyncio.create_task(running.exchange(head + body))
        await asyncio.sleep(1.0)
        release.set()
        ((status, _, answer),) = responses(await asking)
    assert (status, int(answer)) == (200, len(body))


@pytest.mark.parametrize("way", WAYS)
async def test_time_between_requests_is_not_limited_by_these(way: RoutedService | None) -> None:
    async with hurried() as running:
        port = running.ports[way] if way else running.port
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        for _ in range(2):
            writer.write(HEAD.replace(b"/echo", b"/show") + b"Content-Length: 0\r\n\r\n")
            async with asyncio.timeout(WAIT_S):
                await reader.readuntil(b"}")
            await asyncio.sleep(0.7)
        # A further head has the limit again.
        writer.write(HEAD)
        received = await asyncio.wait_for(reader.read(), WAIT_S)
        writer.close()
    assert code(received) == (408, "request_timeout")


async def test_streams_and_websockets_have_no_time_limit() -> None:
    async with running_origin("gateway", "notifier", protocol=Hurried) as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        url = f"ws://{LOOPBACK}:{running.port}/v1/sessions/ses_1/stream"
        async with connect_websocket(url) as connection:
            await asyncio.sleep(1.0)
            await connection.send("a")
            assert await connection.recv() == "A"
        await asyncio.wait_for(reader.readuntil(b"data: first\n\n\r\n"), WAIT_S)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.5)
        writer.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/1.1\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/9\r\nHost: a\r\n\r\n", (400, "malformed_request")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", (400, "malformed_request")),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", (400, "malformed_request")),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", (400, "malformed_request")),
        (b"GET / HTTP/1.1\r\nHost: a\r\nbad header: 1\r\n\r\n", (400, "malformed_request")),
        (HEAD + b"Content-Length: x\r\n\r\n", (400, "malformed_request")),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", (400, "malformed_request")),
        (CHUNKED + b"zz\r\n", (400, "malformed_request")),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", (400, "malformed_request")),
        (HEAD + b"X: " + b"x" * REQUEST_HEAD_BYTES + b"\r\n\r\n", (431, "head_too_large")),
        (HEAD + b"X: 1\r\n" * (REQUEST_HEAD_BYTES // 6), (431, "head_too_large")),
        (HEAD + b"X: 1\r\n" * 200 + b"\r\n", (431, "head_too_large")),
        (
            HEAD.replace(b"/echo", b"/") + b"Transfer-Encoding: chunked\r\n\r\n" + SMALL * 1_100,
            (400, "malformed_request"),
        ),
        (CHUNKED + b"0\r\n" + b"X: 1\r\n" * 10_000 + b"\r\n", (400, "malformed_request")),
        (b"GET /" + b"x" * (20 * KIB) + b" HTTP/1.1\r\nHost: a\r\n\r\n", (414, "target_too_long")),
    ],
)
async def test_what_is_no_request_is_answered_by_a_problem(
    way: RoutedService | None, request_bytes: bytes, expected: tuple[int, str]
) -> None:
    async with running_origin("gateway") as running:
        assert code(await running.exchange(request_bytes, way)) == expected
        assert len(shown(await running.exchange(b"GET / HTTP/1.0\r\n\r\n", way))) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_head_up_to_the_limit_is_accepted(way: RoutedService | None) -> None:
    header = b"X: " + b"x" * (REQUEST_HEAD_BYTES - 100) + b"\r\n"
    async with running_origin("gateway") as running:
        request = HEAD.replace(b"/echo", b"/") + header + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
        (facts,) = shown(await running.exchange(request, way))
    assert len(dict(facts["headers"])["x"]) == REQUEST_HEAD_BYTES - 100


@pytest.mark.parametrize(("chunks", "body_bytes"), [(SMALL * 1_000, 1_000), (b"100\r\n" + b"x" * 256 + b"\r\n", 256)])
async def test_a_body_may_come_in_chunks_of_any_size(chunks: bytes, body_bytes: int) -> None:
    times = 1 if body_bytes == 1_000 else 3_000
    request = HEAD.replace(b"/echo", b"/") + b"X: 1\r\n" * 190 + b"Connection: close\r\n"
    request += b"Transfer-Encoding: chunked\r\n\r\n" + chunks * times + b"0\r\n\r\n"
    async with running_origin("gateway") as running:
        (facts,) = shown(await running.exchange(request))
    assert facts["body_bytes"] == body_bytes * times


async def test_a_body_in_a_hundred_thousand_chunks_costs_no_time() -> None:
    async with running_origin("gateway") as running:
        begun_s = time.thread_time()
        await running.exchange(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + SMALL * 100_000, "gateway")
        assert time.thread_time() - begun_s < 0.5


async def test_an_absolute_target_replaces_the_host() -> None:
    async with running_origin("gateway") as running:
        request = b"GET http://saccade.local:81/v1/jobs?x=1 HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n"
        (facts,) = shown(await running.exchange(request))
    assert (facts["raw_path"], facts["query"]) == ("/v1/jobs", "x=1")
    assert [value for name, value in facts["headers"] if name == "host"] == ["saccade.local:81"]


async def test_a_large_request_that_is_refused_still_gets_its_answer() -> None:
    """The client is still sending when the answer comes."""
    async with running_origin("gateway") as running:
        request = HEAD + b"bad header: 1\r\n\r\n" + b"x" * (512 * KIB)
        for _ in range(20):
            assert code(await running.exchange(request)) == (400, "malformed_request")
