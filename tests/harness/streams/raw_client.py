"""A client of event streams on a bare socket, which sees what the wire carries: heads, chunks and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.harness.servers.embedded import HOST

RETRY = re.compile(rb"^retry: (\d+)$", re.MULTILINE)
CURSOR = re.compile(rb"^id: (\S+)$", re.MULTILINE)


@dataclass
class RawConnection:
    """One connection, and what came on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    head: bytes = b""
    #: The body as it came, its chunks' frames taken off.
    body: bytearray = field(default_factory=bytearray)
    #: The chunks of the body: what the server wrote at once.
    chunks: list[bytes] = field(default_factory=list)
    #: The body was ended as its framing says, not merely cut.
    whole: bool = False

    @property
    def status(self) -> int:
        return int(self.head.split(b" ")[1])

    @property
    def chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self.head.lower()

    @property
    def cursors(self) -> list[str]:
        """List the cursors of all whole blocks."""
        return [cursor.decode() for cursor in CURSOR.findall(bytes(self.body).rpartition(b"\n\n")[0])]

    def header(self, name: str) -> str | None:
        found = re.search(rf"^{name}: (.*)\r$".encode(), self.head, re.MULTILINE | re.IGNORECASE)
        return found[1].decode() if found else None

    async def read_head(self) -> None:
        self.head = await self.reader.readuntil(b"\r\n\r\n")

    async def read_chunk(self) -> bool:
        """Read on; tell whether the body goes on after it."""
        if not self.chunked:
            data = await self.reader.read(65536)
            self.body += data
            self.whole = not data
            return bool(data)
        try:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        except asyncio.IncompleteReadError:
            return False
        assert data.endswith(b"\r\n"), data
        self.body += data[:-2]
        if size:
            self.chunks.append(data[:-2])
        self.whole = size == 0
        return size > 0

    async def read_until(self, text: bytes, timeout_s: float = 10.0) -> None:
        """Read until the body holds a text."""
        async with asyncio.timeout(timeout_s):
            while text not in self.body:
                assert await self.read_chunk(), f"the stream ended: {bytes(self.body[-500:])!r}"

    async def read_to_end(self, timeout_s: float = 20.0) -> None:
        """Read to the end of the body."""
        async with asyncio.timeout(timeout_s):
            with contextlib.suppress(ConnectionError):
                while await self.read_chunk():
                    pass


@contextlib.asynccontextmanager
async def wire(
    url: str, path: str, *headers: str, version: str = "1.1", more: bytes = b"", receive_buffer_bytes: int = 0
) -> AsyncIterator[RawConnection]:
    """Open a connection, ask for a path and read the response's head; ``more`` is sent in one go with the request.

    With a small receive buffer a server notices soon that nothing is read.
    """
    port = urlsplit(url).port
    with contextlib.ExitStack() as until_connected:
        given = socket.socket()
        until_connected.callback(given.close)
        given.setblocking(False)
        if receive_buffer_bytes:
            given.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(given, (HOST, port))
        reader, writer = await asyncio.open_connection(sock=given)
        until_connected.pop_all()
    try:
        lines = [f"GET {path} HTTP/{version}", f"Host: {HOST}:{port}", *headers]
        writer.write("\r\n".join([*lines, "", ""]).encode() + more)
        connection = RawConnection(reader, writer)
        async with asyncio.timeout(30):
            await connection.read_head()
        yield connection
    finally:
        writer.transport.abort()


async def follow(url: str, path: str, timeout_s: float = 60.0, hurry: float = 1.0) -> tuple[list[str], list[bool]]:
    """Read a stream to its end over as many connections as it takes; give its cursors, and which bodies were whole.

    Between connections it waits as long as it was told, times ``hurry``.
    """
    retry_s = 1.0
    cursors: list[str] = []
    ends: list[bool] = []
    async with asyncio.timeout(timeout_s):
        while True:
            resume = [f"Last-Event-ID: {cursors[-1]}"] if cursors else []
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                async with wire(url, path, *resume) as stream:
                    if stream.status == 204:
                        return cursors, ends
                    assert stream.status == 200
                    await stream.read_to_end(timeout_s)
                    assert b"event: gap" not in stream.body
                    if stream.cursors:
                        cursors += stream.cursors
                        ends.append(stream.whole)
                    waited = RETRY.search(bytes(stream.body))
                    retry_s = int(waited[1]) / 1000 if waited else retry_s
            await asyncio.sleep(retry_s * hurry)
