"""What saccade.js does when an answer breaks or hangs after its head, a URL expires, or a proxy answers instead."""

from __future__ import annotations

import asyncio
import json

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


class ComingBack(ConnectionServer):
    """Breaks the first PUT, refuses the old URL from then on, and answers event streams as a proxy five times."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []
        self.streams = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ")[:2]
        if method == "PUT":
            self.puts.append(path)
            await reader.read(100)
            if len(self.puts) == 1:
                return
            writer.write(_HEAD % (b"403 Forbidden" if path == "/old" else b"200 OK", b"text/plain", 0, b""))
        elif path == "/v1/events":
            self.streams += 1
            body = b'retry: 100\n\nid: 1.1\nevent: job.submitted\ndata: {"id": "job_1"}\n\n'
            status, kind = (
                (b"502 Bad Gateway", b"text/html") if self.streams <= 5 else (b"200 OK", b"text/event-stream")
            )
            writer.write(_HEAD % (status, kind, len(body), b"") + body)
        else:
            url = "new" if method == "GET" else "old"
            state = "completed" if path.endswith("complete") else "created"
            body = json.dumps({"id": "upl_1", "state": state, "url": f"{self.url}/{url}", "headers": {}}).encode()
            writer.write(_HEAD % (b"200 OK", b"application/json", len(body), b"") + body)
        await writer.drain()


async def test_a_url_that_expired_while_the_connection_was_broken_is_renewed_and_a_stream_outlasts_a_proxy() -> None:
    find_node()
    async with asyncio.timeout(60), ComingBack() as server:
        found = await use("comingBack", server.url)
    assert server.puts == ["/old", "/old", "/new"]
    assert found["upload"]["state"] == "completed"
    assert server.streams > 5
    assert found["type"] == "job.submitted"
