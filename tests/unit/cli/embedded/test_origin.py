"""The origin passes each connection to the service of its request, whole, and answers where no service can."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gzip
import hashlib
import json
import os
import random
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from websockets.asyncio.client import connect as connect_websocket

from cli.embedded.ports import LOOPBACK
from contracts.limits import KIB, MIB, REQUEST_LINE_BYTES
from kit.auth.api_keys import AuthSettings
from kit.auth.host_guard import HostGuard
from kit.http.connection_channel import ConnectionChannel, channel_ends
from tests.harness.servers.origin import (
    LARGE_ANSWER_BYTES,
    WAIT_S,
    RunningOrigin,
    ShowingService,
    responses,
    running_origin,
    shown,
)

pytestmark = pytest.mark.anyio

HOST = "Host: robot.local:8080\r\n"


def head(line: str, *headers: str) -> bytes:
    """Return a request's head."""
    return "\r\n".join([f"{line} HTTP/1.1", "Host: robot.local:8080", *headers, "", ""]).encode()


@contextlib.asynccontextmanager
async def started_gateway(running: RunningOrigin) -> AsyncIterator[list[tuple[socket.socket, bytes]]]:
    """Connect a service that only takes connections, and wait until the origin passes some; close them at the end."""
    ours, theirs = channel_ends()
    running.origin.connect("gateway", ours)
    taken: list[tuple[socket.socket, bytes]] = []
    service = ConnectionChannel(theirs, on_connection=lambda *passed: taken.append(passed))
    service.announce(ready=True)
    try:
        while not running.origin.is_ready("gateway"):
            await asyncio.sleep(0.005)
        yield taken
    finally:
        for connection, _ in taken:
            connection.close()
        service.close()


async def test_target_headers_and_address_of_the_client_arrive_unchanged() -> None:
    request = head("DELETE /v1/jobs/a%2Fb?x=%20y&x=2", "Connection: X-Private, close", "X-Private: kept", "X-a: 1")
    async with running_origin("gateway") as running:
        (facts,) = shown(await running.exchange(request))
    assert facts["service"] == "gateway"
    assert (facts["method"], facts["raw_path"], facts["query"]) == ("DELETE", "/v1/jobs/a%2Fb", "x=%20y&x=2")
    assert facts["client"][0] == LOOPBACK
    assert facts["headers"] == [
        *(["host", "robot.local:8080"], ["connection", "X-Private, close"], ["x-private", "kept"], ["x-a", "1"])
    ]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: Host, close\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: Origin, close\r\n\r\n",
        b"GET /v1/jobs HTTP/1.0\r\n\r\n",
        b"GET /v1/jobs HTTP/1.0\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET http://localhost@evil.example/v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET http:///v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
async def test_the_guard_sees_the_request_as_it_was_sent(request_bytes: bytes) -> None:
    guarded = HostGuard(ShowingService("gateway"), AuthSettings(allowed_hosts=("saccade.local",)))
    async with running_origin("gateway", services={"gateway": guarded}) as running:
        allowed = b"GET /v1/jobs HTTP/1.0\r\nHost: saccade.local:8080\r\n\r\n"
        assert len(shown(await running.exchange(allowed))) == 1
        ((status, _, body),) = responses(await running.exchange(request_bytes))
    assert status == 403
    assert json.loads(body)["code"] in ("host_not_allowed", "origin_not_allowed")


async def test_requests_on_one_connection_go_each_to_its_own_service() -> None:
    """One after another, and pipelined: the connection moves from service to service."""
    paths = ["/v1/jobs", "/v1/webhooks", "/v1/tickets", "/v1/uploads", "/v1/webhooks/whk_1", "/health"]
    expected = ["gateway", "notifier", "notifier", "gateway", "notifier", "gateway"]
    async with running_origin("gateway", "notifier") as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        async with asyncio.timeout(WAIT_S):
            for path, service in zip(paths, expected, strict=True):
                writer.write(head(f"GET {path}"))
                received = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", received)[1])  # type: ignore[index]
                (facts,) = shown(received + await reader.readexactly(length))
                assert (facts["service"], facts["raw_path"]) == (service, path)
        writer.close()
        pipelined = b"".join(head(f"GET {path}") for path in paths) + head("GET /v1/jobs", "Connection: close")
        facts = shown(await running.exchange(pipelined))
    assert [fact["service"] for fact in facts] == [*expected, "gateway"]
    assert [fact["raw_path"] for fact in facts] == [*paths, "/v1/jobs"]


async def test_a_request_that_comes_byte_by_byte_is_whole() -> None:
    request = head("POST /v1/webhooks", "Content-Length: 3") + b"abc" + head("GET /v1/jobs", "Connection: close")
    async with running_origin("gateway", "notifier") as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        async with asyncio.timeout(WAIT_S):
            first, second = shown(await reader.read())
        writer.close()
    assert (first["service"], first["body_bytes"], second["service"]) == ("notifier", 3, "gateway")


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_no_byte_of_a_body_changes(encoding: str) -> None:
    """Also of a packed one, whose length and content belong together."""
    plain = random.Random(7).randbytes(3 * MIB)
    body = gzip.compress(plain) if encoding == "gzip" else plain
    request = head("POST /echo", f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}", "Connection: close")
    async with running_origin("gateway") as running:
        ((status, headers, echoed),) = responses(await running.exchange(request + body))
    assert (status, headers["content-encoding"]) == (200, encoding)
    assert hashlib.sha256(echoed).digest() == hashlib.sha256(body).digest()


async def test_an_event_stream_is_not_held_back_and_ends_when_its_reader_leaves() -> None:
    async with running_origin("notifier") as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        writer.write(head("GET /v1/events"))
        async with asyncio.timeout(WAIT_S):
            await reader.readuntil(b"data: first\n\n")
            writer.close()
            await running.services["notifier"].reader_left.wait()


async def test_a_websocket_keeps_its_connection() -> None:
    async with running_origin("gateway", "notifier") as running:
        url = f"ws://{LOOPBACK}:{running.port}/v1/sessions/ses_1/stream"
        async with asyncio.timeout(WAIT_S), connect_websocket(url) as connection:
            await connection.send("text")
            assert await connection.recv() == "TEXT"
        await asyncio.wait_for(running.services["gateway"].reader_left.wait(), WAIT_S)


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/%6detrics", "/metrics?x"])
async def test_metrics_are_closed_to_the_outside_also_behind_another_request(path: str) -> None:
    request = head(f"GET {path}")
    async with running_origin("gateway") as running:
        first = responses(await running.exchange(request))
        behind = responses(await running.exchange(head("GET /v1/jobs") + request))
        assert [scope["path"] for scope in running.services["gateway"].requests] == ["/v1/jobs"]
    for status, headers, body in (*first, behind[1]):
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body)["code"] == "not_found"


async def test_a_service_that_is_away_gives_a_problem_and_is_used_once_it_is_back() -> None:
    async with running_origin("gateway") as running:
        ((status, headers, body),) = responses(await running.exchange(head("GET /v1/webhooks")))
        assert (status, headers["content-type"]) == (503, "application/problem+json")
        assert int(headers["retry-after"]) >= 1
        assert json.loads(body)["code"] == "service_unavailable"
        assert json.loads(body)["detail"] == "The notifier is starting."
        running.stops["gateway"].set()
        async with asyncio.timeout(WAIT_S):
            while running.origin.is_ready("gateway"):
                await asyncio.sleep(0.005)
        ((status, _, _),) = responses(await running.exchange(head("GET /v1/jobs")))
        assert status == 503
        async with asyncio.timeout(WAIT_S), started_gateway(running) as taken:
            _, writer = await asyncio.open_connection(LOOPBACK, running.port)
            writer.write(head("GET /v1/jobs"))
            while not taken:
                await asyncio.sleep(0.005)
            writer.close()
        assert [received for _, received in taken] == [head("GET /v1/jobs")]


async def test_a_browsers_event_stream_outlives_a_service_that_is_away() -> None:
    async with running_origin() as running:
        for path in ("/v1/events?types=job.*", "/v1/jobs/job_1/events", "/v1/sessions/ses_1/events"):
            ((status, headers, body),) = responses(await running.exchange(head(f"GET {path}")))
            assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert headers["access-control-allow-origin"] == "*"
            assert re.fullmatch(rb":\nretry: \d{4}\n", body)
        ((status, _, _),) = responses(await running.exchange(head("POST /v1/events", "Content-Length: 0")))
        assert status == 503


async def test_a_client_that_never_ends_its_request_line_is_disconnected() -> None:
    async with running_origin("gateway", request_line_s=0.2) as running:
        assert await running.exchange(b"") == b""
        ((status, _, body),) = responses(await running.exchange(b"GET /v1/jobs"))
        assert (status, json.loads(body)["code"]) == (408, "request_timeout")
        ((status, _, body),) = responses(await running.exchange(b"GET /" + b"x" * REQUEST_LINE_BYTES))
        assert (status, json.loads(body)["code"]) == (414, "target_too_long")
        ((status, _, _),) = responses(
            await running.exchange(b"GET /" + b"x" * REQUEST_LINE_BYTES + b" HTTP/1.1\r\n" + HOST.encode() + b"\r\n")
        )
        assert status == 414
        assert [fact["raw_path"] for fact in shown(await running.exchange(head("GET /ok", "Connection: close")))]


async def test_silent_clients_cannot_keep_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.embedded.origin._MAX_ARRIVALS", 3)
    async with running_origin("gateway") as running:
        silent = [await asyncio.open_connection(LOOPBACK, running.port) for _ in range(4)]
        async with asyncio.timeout(WAIT_S):
            assert await silent[0][0].read() == b"", "the oldest is closed"
            assert len(shown(await running.exchange(head("GET /ok", "Connection: close")))) == 1
        for _, writer in silent:
            writer.close()


async def test_connections_pause_while_the_system_has_no_more_files(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_origin("gateway") as running:
        accept, failures = socket.socket.accept, [errno.EMFILE, errno.ENFILE]

        def failing(listener: socket.socket) -> tuple[socket.socket, object]:
            if failures:
                raise OSError(failures.pop(), "too many open files")
            return accept(listener)

        monkeypatch.setattr(socket.socket, "accept", failing)
        assert len(shown(await running.exchange(head("GET /ok", "Connection: close")))) == 1
        assert not failures


async def test_connections_that_a_dead_service_had_not_taken_are_answered() -> None:
    """Those in its channel as well as those that waited in the origin for room there."""
    async with running_origin() as running:
        ours, theirs = channel_ends()
        running.origin.connect("gateway", ours)
        ConnectionChannel(theirs, on_connection=lambda connection, _: connection.close()).announce(ready=True)
        async with asyncio.timeout(WAIT_S):
            while not running.origin.is_ready("gateway"):
                await asyncio.sleep(0.005)
        asyncio.get_running_loop().remove_reader(theirs)  # it hangs
        filler = b"x" * (32 * KIB)
        waiting = [
            asyncio.create_task(running.exchange(head("POST /v1/jobs", "Content-Length: 32768") + filler))
            for _ in range(120)
        ]
        await asyncio.sleep(0.5)
        assert running.origin.is_ready("gateway")
        theirs.close()
        answers = await asyncio.gather(*waiting)
    assert [responses(answer)[0][0] for answer in answers] == [503] * len(answers)


@pytest.mark.parametrize("unread", [False, True])
async def test_a_client_that_reads_nothing_makes_nobody_keep_what_it_sends(*, unread: bool) -> None:
    """The answer to its first request fills all buffers; its second is for the other service."""
    async with running_origin("gateway", "notifier") as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port, limit=64 * KIB)
        body = bytes(32 * MIB)
        writer.write(head("GET /large") + head("POST /v1/webhooks/echo", f"Content-Length: {len(body)}"))
        writer.transport.set_write_buffer_limits(high=0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0 if unread else WAIT_S):
                receiving = None if unread else asyncio.create_task(reader.readexactly(LARGE_ANSWER_BYTES))
                for start in range(0, len(body), MIB):
                    writer.write(body[start : start + MIB])
                    await writer.drain()
                    sent += MIB
                    if receiving and sent == 4 * MIB:
                        await receiving
                        receiving = asyncio.create_task(reader.read(-1))
        if unread:
            assert sent <= 16 * MIB, "more than the kernel's buffers was taken"
        else:
            assert sent == len(body)
        writer.transport.abort()


async def test_the_next_request_may_come_with_the_end_of_a_body_that_was_answered_already() -> None:
    early = head("POST /early", "Content-Length: 10")
    async with running_origin("gateway", "notifier") as running:
        reader, writer = await asyncio.open_connection(LOOPBACK, running.port)
        async with asyncio.timeout(WAIT_S):
            writer.write(early + b"12345")
            await reader.readuntil(b"{}")
            writer.write(b"67890" + head("GET /v1/webhooks", "Connection: close"))
            (facts,) = shown(await reader.read())
        writer.close()
    assert (facts["service"], facts["raw_path"]) == ("notifier", "/v1/webhooks")


async def test_bytes_that_cannot_become_http_are_refused_at_once() -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    async with running_origin("gateway") as running:
        for way in (None, "gateway"):
            async with asyncio.timeout(WAIT_S / 4):  # the time limit of a request line is WAIT_S
                ((status, _, body),) = responses(await running.exchange(hello, way))
            assert (status, json.loads(body)["code"]) == (400, "malformed_request")


async def test_a_service_without_a_free_file_loses_one_connection_and_no_more() -> None:
    async with running_origin() as running:
        async with asyncio.timeout(WAIT_S), started_gateway(running) as taken:
            connections = [socket.socket() for _ in range(2)]
            used = max(connection.fileno() for connection in connections) + 1
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            with _filled_up_to(used):
                resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
                try:
                    running.origin.channels["gateway"].pass_connection(connections[0], b"lost")
                    await asyncio.sleep(0.05)
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            running.origin.channels["gateway"].pass_connection(connections[1], b"taken")
            while not taken:
                await asyncio.sleep(0.005)
            assert running.origin.is_ready("gateway")
        assert [received for _, received in taken] == [b"taken"]


@contextlib.contextmanager
def _filled_up_to(count: int) -> Iterator[None]:
    """Use every file descriptor below ``count``."""
    opened = []
    try:
        while (number := os.open(os.devnull, os.O_RDONLY)) < count:
            opened.append(number)
        os.close(number)
        yield
    finally:
        for number in opened:
            os.close(number)
