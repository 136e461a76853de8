"""The notifier's tail over a real bus: events come the short way, and all of them whatever befalls the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.msg import Msg

from contracts.events.base import encode
from contracts.events.job import JobStageCompleted
from contracts.ids import new_id
from contracts.streams import LIVE_EVENTS
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore, StoredEvent
from kit.tasks import end
from services.notifier.live import LiveTail
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio


class CountingTail(LiveTail):
    """Counts the events that came by nats-py."""

    by_nats = 0

    async def _on_live(self, msg: Msg) -> None:
        self.by_nats += 1
        await super()._on_live(msg)


@asynccontextmanager
async def following(server: NatsServer) -> AsyncIterator[tuple[CountingTail, EventStore, list[StoredEvent]]]:
    """Follow the stream on a connection that nobody else uses, and publish on another."""
    seen: list[StoredEvent] = []
    reading, writing = await connect(server.settings, "reading"), await connect(server.settings, "writing")
    try:
        await declare(writing)
        tail = CountingTail(EventStore(reading), seen.append, live=LIVE_EVENTS, name="test")
        task = asyncio.create_task(tail.run())
        await asyncio.wait_for(tail.caught_up.wait(), 10)
        yield tail, EventStore(writing), seen
        await end(task)
    finally:
        await reading.close()
        await writing.close()


async def publish(store: EventStore, numbers: range, filler_bytes: int = 0) -> int:
    """Publish events one after the other and give the last sequence."""
    sequence = 0
    for number in numbers:
        data = JobStageCompleted(attempt=1, run_id="r", stage=f"{number}-" + "x" * filler_bytes, duration_s=0)
        message = encode(data, tenant="acme", subject_id=new_id("job"), source="/test")
        sequence = await store.publish(message, deadline_s=30)
    return sequence


async def test_only_the_first_event_of_a_connection_comes_by_nats_py(nats_server: NatsServer) -> None:
    async with following(nats_server) as (tail, store, seen):
        last = await publish(store, range(50))
        assert await tail.wait_for(last, 10)
        assert tail.by_nats == 1
        nats_server.kill()
        nats_server.start()
        last = await publish(store, range(50, 100))
        assert await tail.wait_for(last, 30)
        assert await tail.wait_for(await publish(store, range(100, 101)), 10)  # it has looked at the stream
        before = tail.by_nats
        last = await publish(store, range(101, 150))
        assert await tail.wait_for(last, 10)
        assert tail.by_nats <= before + 1, "a new connection is read the short way too"
        assert [stored.sequence for stored in seen] == list(range(1, 151))
        assert [stored.body.split(b'"stage":"')[1].split(b"-")[0] for stored in seen] == [
            str(number).encode() for number in range(150)
        ]


async def test_events_larger_than_one_read_and_many_at_once_come_whole_and_in_order(nats_server: NatsServer) -> None:
    async with following(nats_server) as (tail, store, seen):
        await publish(store, range(1))
        sequences = await asyncio.gather(*(publish(store, range(i, i + 5), 150_000 * (i % 3)) for i in range(0, 60, 5)))
        assert await tail.wait_for(max(sequences), 30)
        assert [stored.sequence for stored in seen] == list(range(1, 62))
        for stored in seen:
            found, _ = await store.batch(stored.sequence - 1, size=1)
            assert (stored.subject, stored.body) == (found[0].subject, found[0].body)
        assert tail.by_nats < 60, "some came the short way"
