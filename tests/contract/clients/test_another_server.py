"""Commands against a server that answers with JSON and is none of Saccade's."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.clients.test_client_use import Command
from tests.harness.network.connection_server import ConnectionServer

pytestmark = pytest.mark.anyio


class AnotherServer(ConnectionServer):
    """Answers every request with one text."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self._body = body

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        writer.write(head % len(self._body) + self._body)
        await writer.drain()


@pytest.mark.parametrize("body", [b"{}", b'{"data": [{"id": 7}]}', b'{"data": 1}', b"[]", b"<html>"])
@pytest.mark.parametrize("words", [("jobs",), ("job", "job_1"), ("workloads",), ("submit", "lap_compare", "a.mp4")])
async def test_the_address_of_another_server_is_said(body: bytes, words: tuple[str, ...]) -> None:
    async with asyncio.timeout(30), AnotherServer(body) as server:
        refused = await Command(server.url, words[0]).refused(*words[1:])
    assert refused.code == "unexpected_answer"
    assert refused.hint == "Check that the address is that of a Saccade server."
