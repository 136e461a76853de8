"""Servers of files on loopback that speak HTTP by hand: what they send is what stands in the test."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.harness.webhooks.receivers import receiving

#: Answers one request, after its head was read.
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FileServer:
    """A server, and the requests that it got."""

    def __init__(self) -> None:
        self.port = 0
        self.scheme = "http"
        self.heads: list[str] = []
        self.connections = 0

    @property
    def targets(self) -> list[str]:
        """Return the request targets, in order."""
        return [head.split(" ")[1] for head in self.heads]

    def url(self, target: str) -> str:
        """Return a URL of this server."""
        return f"{self.scheme}://127.0.0.1:{self.port}{target}"


def answer(body: bytes, *headers: str, status: str = "200 OK", length: int | None = -1) -> bytes:
    """Write an answer; ``length`` is what it announces, None for nothing."""
    announced = [] if length is None else [f"Content-Length: {len(body) if length < 0 else length}"]
    return "\r\n".join([f"HTTP/1.1 {status}", *announced, *headers, "", ""]).encode() + body


def sending(
    *parts: bytes, pause_s: float = 0.0, forever: bool = False, hold: bool = False, close: bool = False
) -> Talk:
    """Send these bytes and close; ``forever`` repeats the last, ``hold`` keeps the connection open and silent."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in itertools.chain(parts, itertools.repeat(parts[-1])) if forever else parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)
        if hold or not (parts and (close or b"\r\n\r\n" in parts[0] or b"SSH" in parts[0])):
            await reader.read()

    return talk


@asynccontextmanager
async def file_server(
    talk: Talk, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[FileServer]:
    """Serve a way of talking, one request a connection, on a port of its own."""
    server = FileServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await talk(reader, writer)

    async with receiving(serve, host=host, tls=tls) as receiver:
        server.port, server.scheme = receiver.port, "https" if tls else "http"
        yield server
