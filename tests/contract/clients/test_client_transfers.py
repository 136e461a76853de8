"""Uploads and downloads of the Python clients: over a slow line, after a lost answer, of a server below a path."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from saccade_client.errors import NotFoundError
from saccade_client.request_parts import located_url
from saccade_client.retries import Retries

from tests.harness.clients.python_clients import CLIENT_KINDS, opener
from tests.harness.network.connection_server import ConnectionServer

pytestmark = pytest.mark.anyio

PART_BYTES = 1000
JPEG = b"\xff\xd8\xff" + bytes(2000)


@dataclass
class Received:
    """What the server has of an upload."""

    created: int = 0
    puts: int = 0
    state: str = "created"
    parts: list[dict[str, int]] = field(default_factory=list)


class LossyServer(ConnectionServer):
    """Takes one upload and breaks the first connections to its bucket."""

    def __init__(self, *, broken_puts: int = 0) -> None:
        super().__init__()
        self.received = Received()
        self._broken_puts = broken_puts

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
        body = await reader.readexactly(int(lengths[0]) if lengths else 0)
        answer = self._answer(method, path, body)
        if answer is None:
            return
        content = json.dumps(answer).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n" % len(content) + content)
        await writer.drain()

    def _answer(self, method: str, path: str, body: bytes) -> dict[str, Any] | None:
        """Return the body of the answer; None closes the connection instead."""
        received = self.received
        if method == "PUT":
            received.puts += 1
            if received.puts <= self._broken_puts:
                return None
            received.parts.append({"part_number": int(path.rpartition("/")[2])})
            return {}
        if path.endswith("/parts"):
            numbers = json.loads(body)["part_numbers"]
            return {"parts": [{"part_number": part, "url": f"{self.url}/bucket/{part}"} for part in numbers]}
        if path.endswith("/complete"):
            received.state = "completed"
        elif method == "POST":
            received.created += 1
        upload = {"id": f"upl_{received.created}", "state": received.state, "parts": received.parts}
        return upload | {"url": f"{self.url}/bucket/0", "part_size_bytes": PART_BYTES}


@pytest.mark.parametrize("kind", CLIENT_KINDS)
async def test_an_upload_over_a_slow_line_has_all_its_attempts(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if each attempt took longer than a server is waited for."""
    assert Retries.__init__.__kwdefaults__
    monkeypatch.setitem(Retries.__init__.__kwdefaults__, "patience_s", 0.0)
    (tmp_path / "a.jpg").write_bytes(JPEG)
    async with asyncio.timeout(30), LossyServer(broken_puts=3) as server, opener(kind)(server.url) as client:
        assert (await client.upload(tmp_path / "a.jpg")).state == "completed"
        assert server.received.puts == 4


@pytest.mark.parametrize("kind", CLIENT_KINDS)
async def test_an_upload_whose_completion_was_not_heard_of_is_not_sent_again(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(JPEG)
    options: dict[str, Any] = {"multipart": True, "state_dir": tmp_path / "states"}

    def pull(done: int, size: int) -> None:
        if done == size:
            raise ConnectionAbortedError

    async with asyncio.timeout(60), LossyServer() as server, opener(kind)(server.url) as client:
        with pytest.raises(ConnectionAbortedError):
            await client.upload(tmp_path / "a.jpg", on_progress=pull, **options)
        server.received.state = "completed"
        done = await client.upload(tmp_path / "a.jpg", **options)
        assert (done.id, done.state, server.received.created) == ("upl_1", "completed", 1)
        assert not list((tmp_path / "states").iterdir())


@pytest.mark.parametrize(
    ("server", "location", "url"),
    [
        ("http://a.example", "/v1/page", "http://a.example/v1/page"),
        ("http://a.example/some/path", "/v1/page", "http://a.example/some/path/v1/page"),
        ("http://a.example/some/path", "/some/path/v1/page", "http://a.example/some/path/v1/page"),
        ("http://a.example/some/path", "/some/path/page", "http://a.example/some/path/page"),
        ("http://a.example", "/some/path/v1/page", "http://a.example/v1/page"),
        ("http://a.example/other", "/some/path/v1/page?to=/v1/", "http://a.example/other/v1/page?to=/v1/"),
        ("http://a.example/some/path", "https://b.example/key?x=1", "https://b.example/key?x=1"),
        ("http://a.example/some/path", "//b.example/key", "http://b.example/key"),
    ],
)
async def test_a_location_is_below_the_path_of_the_server(server: str, location: str, url: str) -> None:
    assert located_url(server, location) == url


class AnswersInOrder(ConnectionServer):
    """Answers each request with the next status; None closes the connection instead."""

    def __init__(self, *statuses: int | None) -> None:
        super().__init__()
        self._statuses = iter(statuses)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if status := next(self._statuses):
            writer.write(b"HTTP/1.1 %d Said\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % status)
            await writer.drain()


@pytest.mark.parametrize("kind", CLIENT_KINDS)
async def test_what_was_deleted_by_a_request_without_an_answer_is_deleted(kind: str) -> None:
    async with asyncio.timeout(30), AnswersInOrder(None, 404) as server, opener(kind)(server.url) as client:
        await client.rules.delete("rule_1")
    async with asyncio.timeout(30), AnswersInOrder(503, 404) as server, opener(kind)(server.url) as client:
        with pytest.raises(NotFoundError):
            await client.rules.delete("rule_1")
