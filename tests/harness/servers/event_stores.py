"""Event stores on a server of a test, with its streams declared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.embedded import NatsServer


@asynccontextmanager
async def opened(server: NatsServer) -> AsyncIterator[EventStore]:
    """Connect, declare the streams, and close the connection at the end."""
    client = await connect(server.settings, "test")
    try:
        await declare(client)
        yield EventStore(client)
    finally:
        await client.close()
