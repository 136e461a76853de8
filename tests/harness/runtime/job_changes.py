"""Wait for the next event of a job, instead of one look at the event store after the other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError

#: Interval of the looks while no event arrives: the connection may have been lost in between.
_LOOK_S = 0.2


@contextlib.asynccontextmanager
async def job_changes(client: Client, among: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Yield a function that waits until an event of these subjects was stored, at most ``_LOOK_S``."""
    changed = asyncio.Event()

    async def wake(_: Msg) -> None:
        changed.set()

    async def wait() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await changed.wait()
        changed.clear()

    # The stream publishes it after the event is stored (kit/bus/connection.py).
    subscription = await client.subscribe(f"live.{among}", cb=wake)
    try:
        yield wait
    finally:
        with contextlib.suppress(ConnectionClosedError):
            await subscription.unsubscribe()
