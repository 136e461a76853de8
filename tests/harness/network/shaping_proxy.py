"""A bad line to some TCP servers: everything arrives, in order, later; now and then nothing moves for a while."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, Self

from kit.tasks import end
from tests.harness.servers.embedded import HOST

#: Pieces under way in one direction of a connection; beyond them the sender waits.
_UNDER_WAY: Final = 64
_PIECE_BYTES: Final = 16384


@dataclass(frozen=True)
class Shape:
    """How bad: seconds each way, and stalls of random length after random pauses."""

    delay_s: float = 0.1
    stall_every_s: float = 5.0
    stall_s: float = 0.5


class ShapingProxy:
    """Leads from ports of its own to those of servers; all connections over it stall together."""

    def __init__(self, shape: Shape, dice: random.Random) -> None:
        self._shape = shape
        self._dice = dice
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._flows = asyncio.Event()
        self._flows.set()
        #: From when to when nothing moved, unix seconds.
        self.stalls: list[tuple[float, float]] = []

    async def __aenter__(self) -> Self:
        self._begin(self._stall())
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        await end(*self._tasks)

    def stalled_s(self, from_s: float, to_s: float) -> float:
        """Return for how long between two moments no data passed."""
        return sum(max(0.0, min(to_s, ended_s) - max(from_s, began_s)) for began_s, ended_s in self.stalls)

    async def to(self, port: int) -> int:
        """Lead to a port, and give the one that leads there."""

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there, to = await asyncio.open_connection(HOST, port)
            except OSError:
                writer.close()
                return
            self._begin(self._lead(reader, to))
            self._begin(self._lead(there, writer))

        server = await asyncio.start_server(accept, HOST, 0)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _stall(self) -> None:
        while self._shape.stall_every_s:
            await asyncio.sleep(self._shape.stall_every_s * self._dice.uniform(0.5, 1.5))
            length_s = self._shape.stall_s * self._dice.uniform(0.5, 1.5)
            self._flows.clear()
            began_s = time.time()
            await asyncio.sleep(length_s)
            self._flows.set()
            self.stalls.append((began_s, time.time()))

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, each piece when it is due."""
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_UNDER_WAY)

        async def read() -> None:
            data = b"more"
            while data:
                data = await reader.read(_PIECE_BYTES)
                await under_way.put((loop.time() + self._shape.delay_s, data))

        reading = self._begin(read())
        try:
            while True:
                due_s, data = await under_way.get()
                await asyncio.sleep(due_s - loop.time())
                await self._flows.wait()
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            reading.cancel()
            with contextlib.suppress(OSError):
                writer.close()
