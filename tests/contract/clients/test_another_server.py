"""Commands and clients against a server that is none of Saccade's, or a proxy whose server is away."""

from __future__ import annotations

import asyncio
import json

import pytest
from saccade_client import AsyncClient, Client, ClientError

from tests.contract.clients.test_client_use import Command
from tests.harness.clients.javascript_client import use
from tests.harness.clients.node import find_node
from tests.harness.network.connection_server import ConnectionServer

pytestmark = pytest.mark.anyio


class AnotherServer(ConnectionServer):
    """Answers every request with one text."""

    def __init__(self, body: bytes, status: bytes = b"200 OK") -> None:
        super().__init__()
        self._body, self._status = body, status

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % (self._status, len(self._body)) + self._body)
        await writer.drain()


@pytest.mark.parametrize("body", [b"{}", b'{"data": [{"id": 7}]}', b'{"data": 1}', b"[]", b"<html>"])
@pytest.mark.parametrize("words", [("jobs",), ("job", "job_1"), ("workloads",), ("submit", "lap_compare", "a.mp4")])
async def test_the_address_of_another_server_is_said(body: bytes, words: tuple[str, ...]) -> None:
    async with asyncio.timeout(30), AnotherServer(body) as server:
        refused = await Command(server.url, words[0]).refused(*words[1:])
    assert refused.code == "unexpected_answer"
    assert refused.hint == "Check that the address is that of a Saccade server."


AWAY = b"503 Service Unavailable"
REPORT = {"status": "degraded", "service": "gateway", "version": "v", "uptime_s": 1.0, "checks": {}}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (AWAY, b"<html>503 Service Temporarily Unavailable</html>", "unexpected_answer"),
        (AWAY, b'{"message": "no healthy upstream"}', "unexpected_answer"),
        (AWAY, b'{"status": "down", "service": "proxy", "checks": {}}', "unexpected_answer"),
        (AWAY, b'{"code": "starting", "title": "The service starts"}', "starting"),
        (AWAY, b"", "unexpected_answer"),
        (b"200 OK", b'{"status": "ok"}', "unexpected_answer"),
        (b"200 OK", b"<html>", "unexpected_answer"),
    ],
)
async def test_what_is_no_health_report_is_an_error(status: bytes, body: bytes, code: str) -> None:
    async with asyncio.timeout(30), AnotherServer(body, status) as server, AsyncClient(server.url) as client:
        with pytest.raises(ClientError) as refused:
            await client.health()
        with Client(server.url) as blocking, pytest.raises(ClientError) as refused_too:
            await asyncio.to_thread(blocking.health)
    assert (refused.value.code, refused_too.value.code) == (code, code)
    assert refused.value.retryable == (status == AWAY)


@pytest.mark.parametrize("status", [b"200 OK", AWAY])
async def test_a_health_report_is_returned_whatever_a_proxy_makes_of_its_status(status: bytes) -> None:
    body = json.dumps(REPORT).encode()
    async with asyncio.timeout(30), AnotherServer(body, status) as server, AsyncClient(server.url) as client:
        assert await client.health() == REPORT


@pytest.mark.parametrize("body", [b'{"status": "ok"}', b"[]", b"null", b"<html>"])
async def test_what_is_no_health_report_is_an_error_in_javascript(body: bytes) -> None:
    find_node()
    async with asyncio.timeout(30), AnotherServer(body) as server:
        refused = await use("health", server.url)
    assert (refused["name"], refused["code"]) == ("SaccadeError", "unexpected_answer")


async def test_a_health_report_is_returned_in_javascript() -> None:
    find_node()
    async with asyncio.timeout(30), AnotherServer(json.dumps(REPORT).encode()) as server:
        assert await use("health", server.url) == {"answer": REPORT}
