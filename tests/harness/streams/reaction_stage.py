"""A stage for tests of reactions: a real server, a bus with one reaction, and what its handler was called with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.js.api import ConsumerInfo
from saccade_events import Bus, Event, Observer, Reactions, RetryPolicy

from contracts.events.base import encode
from contracts.events.upload import MediaFacts, UploadCompleted
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, EVENTS
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore, StoredEvent
from kit.tasks import end
from tests.harness.servers.embedded import NatsServer

CONSUMER = "tested-upload-completed"
#: Retries quickly; holds an event back for long where it is not given back.
RETRY = RetryPolicy(maximum_attempts=3, initial_interval_s=0.2, ack_wait_s=30.0)
_FACTS = MediaFacts(media="image", container="png", codec="png", width_px=1, height_px=1)


async def complete_upload(
    store: EventStore, sha256: str = "ok", *, traceparent: str | None = None, headers: dict[str, str] | None = None
) -> str:
    """Publish upload.completed, and return the upload's id; the hash is the test's word to the handler."""
    upload_id = new_id("upl")
    data = UploadCompleted(size_bytes=1, sha256=sha256, media=_FACTS)
    message = encode(data, tenant="acme", subject_id=upload_id, source="/test", traceparent=traceparent)
    await store.publish(message, headers=headers, deadline_s=30)
    return upload_id


async def succeed(event: Event[UploadCompleted]) -> None:
    """Handle an event."""


async def fail(event: Event[UploadCompleted]) -> None:
    """Fail."""
    raise OSError("the network is down")


@dataclass
class Stage:
    """A connection and a store; ``bus()`` makes a bus whose handler does what ``act`` says and notes each call."""

    server: NatsServer
    client: Client
    store: EventStore
    act: Callable[[Event[UploadCompleted]], Awaitable[None]] = succeed
    #: Upload and time of each call.
    calls: list[tuple[str, float]] = field(default_factory=list)

    @property
    def called_with(self) -> list[str]:
        return [upload_id for upload_id, _ in self.calls]

    def reactions(self, retry: RetryPolicy = RETRY) -> Reactions:
        reactions = Reactions("tested")

        @reactions.on(UploadCompleted, retry)
        async def completed(event: Event[UploadCompleted]) -> None:
            self.calls.append((event.subject, time.monotonic()))
            await self.act(event)

        return reactions

    def bus(self, retry: RetryPolicy = RETRY, *, observers: Sequence[Observer] = (), **options: Any) -> Bus:
        return Bus(self.client, self.reactions(retry), observers=observers, look_s=0.3, **options)

    @asynccontextmanager
    async def running(self, bus: Bus | None = None, *, started: bool = True) -> AsyncIterator[asyncio.Task[None]]:
        """Run a bus, once it has started; afterwards it is cancelled."""
        bus = bus or self.bus()
        task = asyncio.ensure_future(bus.run())
        try:
            await self.until(lambda: bus.running or task.done() or not started)
            yield task
        finally:
            await end(task)

    async def until(self, condition: Callable[[], bool], timeout_s: float = 15.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_called(self, count: int) -> None:
        await self.until(lambda: len(self.calls) >= count)

    async def dead_letters(self) -> list[StoredEvent]:
        store = EventStore(self.client, DEADLETTERS.name)
        return [letter async for letter in store.history(0, "saccade.dlq.>")]

    async def until_dead_letters(self, count: int) -> list[StoredEvent]:
        async with asyncio.timeout(15):
            while len(letters := await self.dead_letters()) < count:
                await asyncio.sleep(0.05)
        return letters

    async def consumer(self) -> ConsumerInfo:
        return await self.client.jetstream().consumer_info(EVENTS.name, CONSUMER)

    async def until_settled(self) -> ConsumerInfo:
        """Wait until every event that is stored now is settled; the server counts a new one a moment later."""
        last = await self.client.jetstream().get_last_msg(EVENTS.name, "saccade.evt.*.upload.*.completed")
        assert last.seq is not None
        async with asyncio.timeout(15):
            while True:
                info = await self.consumer()
                settled = info.ack_floor.stream_seq if info.ack_floor else 0
                if settled >= last.seq and not info.num_pending and not info.num_ack_pending:
                    return info
                await asyncio.sleep(0.05)


@asynccontextmanager
async def open_stage(server: NatsServer) -> AsyncIterator[Stage]:
    """Connect, and begin with empty streams: the server may have served another test."""
    client = await connect(server.settings, "test")
    try:
        jetstream = client.jetstream()
        await declare(client)
        for name in (EVENTS.name, DEADLETTERS.name):
            for consumer in await jetstream.consumers_info(name):
                await jetstream.delete_consumer(name, consumer.name)
            await jetstream.purge_stream(name)
        yield Stage(server, client, EventStore(client))
    finally:
        await client.close()
