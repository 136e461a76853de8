"""A node that keeps its connections and reads nothing any more: a client with much to send leaves it all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from nats.errors import StaleConnectionError

from kit.bus.connection import connect
from kit.tasks import end
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio


class Pass:
    """Passes connections on; paused, it reads nothing of those that it has, and goes on with new ones."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self.paused: list[asyncio.StreamWriter] = []
        self._open: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def pause(self) -> None:
        for writer in self._open:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.paused, self._open = self._open, []

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        self._open += [writer, far_writer]
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def close(self) -> None:
        for writer in (*self._open, *self.paused):
            writer.transport.abort()
        await end(*self._tasks)


@asynccontextmanager
async def passing(server: NatsServer) -> AsyncIterator[tuple[Pass, str]]:
    parts = urlsplit(server.settings.url)
    way = Pass(parts.hostname or "127.0.0.1", parts.port or 4222)
    listening = await asyncio.start_server(way.on_connection, "127.0.0.1", 0)
    try:
        yield way, f"nats://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        await way.close()


async def test_a_client_leaves_a_paused_node_although_much_waits_to_be_sent(nats_server: NatsServer) -> None:
    async with passing(nats_server) as (way, url):
        client = await connect(nats_server.settings.model_copy(update={"url": url}), "test")
        try:
            way.pause()
            for _ in range(60):  # more than the kernels take for a connection
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.publish("nobody.listens", b"x" * 500_000)
                await asyncio.sleep(0)
            before = client.stats["reconnects"]
            # What the client does when nobody has answered its pings, which takes half a minute.
            await client._process_op_err(StaleConnectionError())
            async with asyncio.timeout(30):
                while client.stats["reconnects"] == before or not client.is_connected:
                    await asyncio.sleep(0.02)
            await client.flush()
        finally:
            async with asyncio.timeout(30):
                await client.close()
