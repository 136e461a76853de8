"""A proxy that breaks event streams on purpose, as a seed says: it cuts, stalls, truncates and strips headers.

It duplicates nothing and reorders nothing: what a client lacks or has twice is not its doing, except where it takes
``Last-Event-ID`` away. Everything but event streams passes as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from kit.tasks import end
from tests.harness.network.connection_server import ConnectionServer
from tests.harness.servers.embedded import HOST, free_port

Kind = Literal["refuse", "head", "cut", "close", "truncate", "stall"]
#: Where in a block the stream breaks: before it, in its first lines, in its data, before the newline that ends it.
Point = Literal["boundary", "fields", "data", "last_newline"]

KINDS: tuple[Kind, ...] = ("refuse", "head", "cut", "close", "truncate", "stall")
POINTS: tuple[Point, ...] = ("boundary", "fields", "data", "last_newline")
#: So that a reconnect takes milliseconds; of the same length, so that no byte moves.
_RETRY = re.compile(rb"retry: \d\d(\d\d)\n")
#: What is no part of a block: a stream's head and heartbeats.
_BETWEEN_BLOCKS = re.compile(rb"(?::[^\n]*\n|retry: \d+\n)*")


@dataclass(frozen=True)
class Fault:
    """How one stream ends before its time."""

    kind: Kind
    #: Blocks that pass whole.
    blocks: int
    point: Point
    #: Pass what passes in pieces of this size, each a chunk of its own.
    piece_bytes: int | None = None


@dataclass(frozen=True)
class Asked:
    """One request for an event stream, as it came."""

    target: str
    last_event_id: str | None


@dataclass(frozen=True)
class Request:
    """One HTTP request."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def streams(self) -> bool:
        """Return whether it is for an event stream."""
        method, target, _ = self.line.split(" ")
        return method == "GET" and target.partition("?")[0].endswith("/events")


def draw_faults(dice: random.Random, count: int) -> list[Fault]:
    """Draw faults: each kind and each point comes, in any order; the first lets a client see that there is a server."""
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    points = [POINTS[number % len(POINTS)] for number in range(count)]
    dice.shuffle(kinds)
    dice.shuffle(points)
    if kinds[0] in ("refuse", "head"):
        first = next(number for number, kind in enumerate(kinds) if kind not in ("refuse", "head"))
        kinds[0], kinds[first] = kinds[first], kinds[0]
    return [
        Fault(kind, dice.randrange(6), point, dice.choice([None, None, 1, 7, 50]))
        for kind, point in zip(kinds, points, strict=True)
    ]


class BreakingProxy(ConnectionServer):
    """Stands between one client and the services; ``upstream_of`` gives the port that answers a path."""

    def __init__(
        self,
        upstream_of: Callable[[str], int],
        faults: Iterable[Fault] = (),
        *,
        strips: Iterable[str] = (),
        stall_s: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(free_port())
        self._upstream_of = upstream_of
        self._faults = list(faults)
        self._planned = len(self._faults)
        #: Names of headers, and of values in the query.
        self._strips = {name.lower() for name in strips}
        self._stall_s = stall_s
        self._dice = random.Random(seed)
        self._streams: set[asyncio.StreamWriter] = set()
        #: Faults that have happened.
        self.broken: list[Fault] = []
        self.asked: list[Asked] = []
        #: Event streams that are open now, and the most there were.
        self.open = 0
        self.most_open = 0

    @property
    def exhausted(self) -> bool:
        """Return whether every fault has happened."""
        return len(self.broken) == self._planned

    def break_next(self, *faults: Fault) -> None:
        """Add faults."""
        self._faults += faults
        self._planned += len(faults)

    def cut_open(self) -> int:
        """Reset every open event stream and give how many there were."""
        writers = list(self._streams)
        for writer in writers:
            _reset(writer)
        return len(writers)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one request on; the connection ends with it, so that each fault hits one request."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head[:-4].split("\r\n")
        method, target, version = request.split(" ")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        given = {name.lower(): value for name, value in headers}
        body = await reader.readexactly(int(given.get("content-length", 0)))
        fault = None
        if Request(request, headers, body).streams:
            self.asked.append(Asked(target, given.get("last-event-id")))
            path, mark, query = target.partition("?")
            target = (
                path + mark + "&".join(one for one in query.split("&") if one.partition("=")[0] not in self._strips)
            )
            fault = self._faults.pop(0) if self._faults else None
        try:
            await self._pass(Request(f"{method} {target} {version}", headers, body), reader, writer, fault)
        finally:
            # A stream may have ended before it could be broken: the next one is.
            if fault and not any(one is fault for one in self.broken):
                self._faults.insert(0, fault)

    async def _pass(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None
    ) -> None:
        """Forward the request and return the response, as far as the fault allows."""
        if fault and fault.kind == "refuse":
            self.broken.append(fault)
            _reset(writer)
            return
        kept = [(name, value) for name, value in request.headers if name.lower() not in self._strips | {"connection"}]
        sent = "".join(f"{name}: {value}\r\n" for name, value in [*kept, ("Connection", "close")])
        path = request.line.split(" ")[1].partition("?")[0]
        there, to = await asyncio.open_connection(HOST, self._upstream_of(path), limit=2**22)
        try:
            to.write(f"{request.line}\r\n{sent}\r\n".encode("latin-1") + request.body)
            if request.streams:
                await self._watched(reader, writer, self._answer(there, writer, fault))
            else:
                while piece := await there.read(65536):
                    writer.write(piece)
                    await writer.drain()
        finally:
            to.close()

    async def _watched(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answering: Coroutine[Any, Any, None]
    ) -> None:
        """Answer until the client goes."""
        self._streams.add(writer)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        answer = asyncio.ensure_future(answering)
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait([answer, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            self._streams.discard(writer)
            await end(answer, gone)

    async def _answer(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        head = await there.readuntil(b"\r\n\r\n")
        if fault and fault.kind == "head":
            self.broken.append(fault)
            writer.write(head[: self._dice.randrange(1, len(head) - 1)])
            await writer.drain()
            _reset(writer)
            return
        writer.write(head)
        if b"\r\ntransfer-encoding: chunked" not in head.lower():
            writer.write(await there.read())
            await writer.drain()
            return
        passed = 0
        held = b""
        async for piece in _unchunked(there):
            held += _RETRY.sub(rb"retry: 00\1\n", piece)
            while fault and (end := held.find(b"\n\n")) >= 0:
                block, held = held[: end + 2], held[end + 2 :]
                if passed == fault.blocks:
                    await self._write(writer, block[: self._cut(block, fault.point)], fault.piece_bytes)
                    await self._end(writer, fault)
                    return
                await self._write(writer, block, fault.piece_bytes)
                passed += 1
            if fault is None or _BETWEEN_BLOCKS.fullmatch(held):
                await self._write(writer, held, None)
                held = b""
        await self._write(writer, held, None)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    def _cut(self, block: bytes, point: Point) -> int:
        """Return how many bytes of a block pass."""
        data = max(block.find(b"data: "), 1)
        match point:
            case "boundary":
                return 0
            case "fields":
                ends = [match.end() for match in re.finditer(rb"\n", block)]
                return self._dice.choice([*ends[:-2], self._dice.randrange(1, max(data, 2))])
            case "data":
                return self._dice.randrange(data, len(block) - 2)
            case "last_newline":
                return len(block) - 1

    async def _end(self, writer: asyncio.StreamWriter, fault: Fault) -> None:
        # Noted first: the client may leave at once, and ends this with it.
        self.broken.append(fault)
        await writer.drain()
        if fault.kind == "truncate":
            # In order, as far as HTTP goes: only the event is half.
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif fault.kind == "stall":
            await asyncio.sleep(self._stall_s)
        if fault.kind in ("truncate", "close"):
            writer.close()
        else:
            _reset(writer)

    @staticmethod
    async def _write(writer: asyncio.StreamWriter, data: bytes, piece_bytes: int | None) -> None:
        size = piece_bytes or len(data)
        for start in range(0, len(data), size or 1):
            piece = data[start : start + size]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection."""
    with contextlib.suppress(OSError):
        connection: socket.socket = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _unchunked(there: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Read a chunked body piece by piece; ends where it ends, or raises where it breaks."""
    while size := int((await there.readuntil(b"\r\n")).strip(), 16):
        yield await there.readexactly(size)
        await there.readexactly(2)
