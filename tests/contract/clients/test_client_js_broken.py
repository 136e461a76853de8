"""What saccade.js does when an answer breaks or hangs after its head."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness.clients.javascript_client import use
from tests.harness.clients.node import find_node
from tests.harness.network.connection_server import ConnectionServer
from tests.harness.servers.embedded import HOST, free_port

pytestmark = pytest.mark.anyio

_HEAD = b"HTTP/1.1 %b\r\nContent-Type: %b\r\nContent-Length: %d\r\nConnection: close\r\n%b\r\n"
_JSON = b'{"n": 2}'


class BrokenAnswers(ConnectionServer):
    """Cuts the first answer of ``/v1/cut`` off, hangs in those of ``hung`` and of a page, and sends files elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = 0
        self.elsewhere = f"http://{HOST}:{free_port()}/file"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        if path == b"/v1/cut":
            self.cut += 1
            body = _JSON if self.cut > 1 else _JSON[:3]
            writer.write(_HEAD % (b"200 OK", b"application/json", len(_JSON), b"") + body)
        elif path.endswith(b"gone.bin"):
            writer.write(_HEAD % (b"307 Found", b"text/plain", 0, b"Location: %b\r\n" % self.elsewhere.encode()))
        else:
            kind = b"text/html" if path.endswith(b".html") else b"application/json"
            writer.write(_HEAD % (b"200 OK", kind, 1000, b"") + b"<p>")
            await writer.drain()
            await asyncio.sleep(60)
        await writer.drain()


async def test_an_answer_that_breaks_is_asked_for_again_and_one_that_hangs_ends() -> None:
    find_node()
    async with asyncio.timeout(40), BrokenAnswers() as server:
        found = await use("brokenAnswers", server.url, "gone.bin")
    assert found["cut"] == {"n": 2}
    assert (found["hung"]["name"], found["hung"]["code"]) == ("SaccadeError", "server_unreachable")
    assert found["stopped"]["name"] == "AbortError"
    assert found["page"]["name"] == "AbortError", "the signal also ends the reading of a file"
    assert (found["gone"]["name"], found["gone"]["code"]) == ("SaccadeError", "server_unreachable")
