"""A WebSocket's client is disconnected by frames that are no message, and no message is lost in many parts."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websocket
from websockets.frames import Frame, Opcode

from cli.embedded.ports import LOOPBACK
from contracts.limits import KIB, MIB
from tests.harness.servers.origin import WAIT_S, RunningOrigin, running_origin

pytestmark = pytest.mark.anyio

HEAD = (
    b"GET /stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
#: More than a library ever sends, and enough to take a second of the event loop.
MANY = 100_000
#: What a close frame says.
NORMAL = struct.pack("!H", 1000)
POLICY = struct.pack("!H", 1008)


def written(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    """Return a frame as a client writes it."""
    return Frame(opcode, data, fin).serialize(mask=True)


def frames(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Parse what a server has sent: opcodes and contents."""
    while received:
        opcode, size, at = received[0] & 15, received[1], 2
        if size == 126:
            (size,), at = struct.unpack("!H", received[2:4]), 4
        yield opcode, received[at : at + size]
        received = received[at + size :]


class Raw:
    """A WebSocket whose bytes a test writes itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def opened(cls, running: RunningOrigin) -> Raw:
        raw = cls(*await asyncio.open_connection(LOOPBACK, running.ports["gateway"]))
        raw.writer.write(HEAD)
        head = await raw.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return raw

    async def take(self, size: int) -> list[tuple[int, bytes]]:
        """Return the frames in the next bytes."""
        async with asyncio.timeout(WAIT_S):
            return list(frames(await self.reader.readexactly(size)))

    async def rest(self) -> list[tuple[int, bytes]]:
        """Return all frames that come until the server ends the connection."""
        try:
            async with asyncio.timeout(WAIT_S):
                return list(frames(await self.reader.read()))
        finally:
            self.writer.close()


async def longest_step_s(until: asyncio.Task[Any]) -> float:
    """Return the most CPU time that the event loop used before it ran anything else."""
    longest_s = 0.0
    while not until.done():
        begun_s = time.thread_time()
        await asyncio.sleep(0)
        longest_s = max(longest_s, time.thread_time() - begun_s)
    return longest_s


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (written(Opcode.TEXT, fin=False), written(Opcode.CONT, fin=False)),
        (written(Opcode.TEXT, fin=False), written(Opcode.CONT, b"x" * 255, fin=False)),
        (b"", written(Opcode.PING, b"x" * 125)),
        (b"", written(Opcode.PONG)),
    ],
    ids=["empty parts", "small parts", "pings", "pongs"],
)
async def test_frames_that_are_no_message_disconnect_their_client(first: bytes, then: bytes) -> None:
    async with running_origin("gateway") as running:
        raw = await Raw.opened(running)
        raw.writer.write(first + then * (MANY if len(then) < KIB // 8 else 10_000))
        rest = asyncio.create_task(raw.rest())
        step_s = await longest_step_s(rest)
        try:
            opcode, reason = (await rest)[-1]
        except ConnectionError:
            # What the server has not read resets the connection, and with it the reason.
            opcode, reason = Opcode.CLOSE, POLICY
        assert (opcode, reason[:2]) == (Opcode.CLOSE, POLICY)
        assert step_s < 0.1
        await asyncio.wait_for(running.services["gateway"].reader_left.wait(), WAIT_S)


async def test_some_pings_are_answered() -> None:
    async with running_origin("gateway") as running:
        raw = await Raw.opened(running)
        raw.writer.write(written(Opcode.PING, b"a") * 100 + written(Opcode.TEXT, b"b"))
        assert await raw.take(101 * 3) == [(Opcode.PONG, b"a")] * 100 + [(Opcode.TEXT, b"B")]
        raw.writer.write(written(Opcode.CLOSE, NORMAL))
        assert await raw.rest() == [(Opcode.CLOSE, NORMAL)]


async def echoed(connection: ClientConnection, text: str, part: int) -> None:
    """Send a message in parts, and expect it back."""
    await connection.send(text[at : at + part] for at in range(0, len(text), part))
    assert await connection.recv() == text.upper()


async def test_a_message_may_come_in_very_many_parts() -> None:
    async with running_origin("gateway") as running:
        url = f"ws://{LOOPBACK}:{running.ports['gateway']}/stream"
        async with connect_websocket(url, max_size=None) as connection, asyncio.timeout(60):
            await echoed(connection, "abcdefgh" * (4 * MIB // 8), 256)
            for _ in range(3):
                await echoed(connection, "ab" * 20_000, 256)
            await echoed(connection, "ab" * 75, 1)


async def test_messages_that_come_together_are_all_received_and_the_close_after_them() -> None:
    texts = [f"text {number}".encode() for number in range(5_000)]
    async with running_origin("gateway") as running:
        raw = await Raw.opened(running)
        raw.writer.write(b"".join(written(Opcode.TEXT, text) for text in texts))
        expected = [(Opcode.TEXT, text.upper()) for text in texts]
        assert await raw.take(sum(2 + len(text) for text in texts)) == expected
        raw.writer.write(written(Opcode.TEXT, b"last") + written(Opcode.CLOSE, NORMAL))
        assert (await raw.rest())[-1] == (Opcode.CLOSE, NORMAL)


def session(then: Callable[[Receive, Send], Awaitable[None]]) -> ASGIApp:
    """Return an application that accepts its WebSockets, goes on with ``then``, and closes them."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        await then(receive, send)
        await send({"type": "websocket.close", "code": 1000})

    return application


async def test_messages_wait_in_the_connection_until_they_are_received() -> None:
    waiting: list[int] = []

    async def count(receive: Receive, _: Send) -> None:
        await asyncio.sleep(0.5)
        waiting.append(receive.__self__.queue.qsize())  # type: ignore[attr-defined]

    async with running_origin("gateway", services={"gateway": session(count)}) as running:
        raw = await Raw.opened(running)
        raw.writer.write(written(Opcode.TEXT, b"x") * 4_000 + written(Opcode.CLOSE, NORMAL))
        assert await raw.rest() == [(Opcode.CLOSE, NORMAL)]
    assert waiting == [1]


async def test_frames_after_the_servers_close_disconnect_their_client() -> None:
    """Nobody takes them any more, and no quota counts them."""

    async def leave(receive: Receive, _: Send) -> None:
        await receive()

    async with running_origin("gateway", services={"gateway": session(leave)}) as running:
        raw = await Raw.opened(running)
        raw.writer.write(written(Opcode.TEXT))
        assert await raw.take(4) == [(Opcode.CLOSE, NORMAL)]
        begun_s = time.monotonic()
        raw.writer.write(written(Opcode.TEXT) * MANY)
        rest = asyncio.create_task(raw.rest())
        step_s = await longest_step_s(rest)
        with contextlib.suppress(ConnectionError):
            assert await rest == []
        assert time.monotonic() - begun_s < 5, "before the time for the client's own close has passed"
        assert step_s < 0.1


async def test_a_socket_without_traffic_keeps_nothing_of_what_was_read() -> None:
    kept: list[int] = []

    async def receive_all(receive: Receive, _: Send) -> None:
        for _number in range(2):
            await receive()
            kept.append(len(receive.__self__._unparsed.obj))  # type: ignore[attr-defined]

    async with running_origin("gateway", services={"gateway": session(receive_all)}) as running:
        raw = await Raw.opened(running)
        raw.writer.write(written(Opcode.BINARY, bytes(100 * KIB)) + written(Opcode.TEXT, b"x"))
        await raw.take(4)
        raw.writer.close()
    assert kept[-1] == 0
