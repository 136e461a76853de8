"""Connection to NATS: survives restarts of a proxy in between, and leaves no open socket."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from kit.bus.connection import connect
from tests.harness.servers.embedded import HOST, EmbeddedNats

pytestmark = pytest.mark.anyio


async def test_a_listener_that_closes_connections_leaves_no_open_socket(tmp_path: Path) -> None:
    """A container engine listens on the published port while the server behind it is unavailable."""
    tries = 0

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    with EmbeddedNats(tmp_path) as server:
        client = await connect(server.settings, "test")
        try:
            server.kill()
            port = int(server.url.rpartition(":")[2])
            async with await asyncio.start_server(hang_up, HOST, port):
                async with asyncio.timeout(20):
                    while tries < 3:
                        await asyncio.sleep(0.05)
            server.start()
            async with asyncio.timeout(20):
                while not client.is_connected:
                    await asyncio.sleep(0.05)
            await client.flush(5)
        finally:
            await client.close()
    gc.collect()  # pytest turns a socket that was left to the collector into an error


async def test_it_closes_while_the_server_is_away_and_something_waits_to_be_sent(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as server:
        client = await connect(server.settings, "test")
        await client.flush(5)
        server.kill()
        async with asyncio.timeout(20):
            while client.is_connected:
                await asyncio.sleep(0.01)
        await client.publish("somewhere", b"a message")
        await client.close()
        assert client.is_closed
    gc.collect()
