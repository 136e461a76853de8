"""The gateway's view over restores: rebuilt only when its position is not in today's stream."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from contracts.events import Message, encode
from contracts.events.job import JobQueued
from contracts.ids import new_id
from kit.bus.connection import declare, epoch_of, request
from kit.bus.event_store import EventStore
from kit.bus.tail import EpochChanged
from kit.tasks import end
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import ViewFollower
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.servers.event_stores import opened
from tests.harness.servers.stream_backups import back_up, restore

pytestmark = pytest.mark.anyio


def queued() -> Message:
    return encode(JobQueued(position=0), tenant="local", subject_id=new_id("job"), source="/test")


async def publish(store: EventStore, count: int) -> int:
    for _ in range(count):
        last = await store.publish(queued())
    return last


async def folded(store: EventStore, folder: Path) -> list[int]:
    """Run a gateway's view up to the end of the stream; return the sequences of the events that it folded."""
    await declare(store.client)
    view, seen = GatewayView(folder), list[int]()
    follower = ViewFollower(store, view, lambda _: None)
    follower.set_projectors(job=lambda _, sequence: seen.append(sequence))
    task = asyncio.create_task(follower.run())
    try:
        _, last = await epoch_of(store.client, "EVENTS")
        assert await follower.tail.wait_for(last, 10)
        assert (view.epoch, view.sequence) == await epoch_of(store.client, "EVENTS")
    finally:
        await end(task)
        view.close()
    return seen


async def test_the_newest_state_restored_is_folded_on(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    async with opened(nats_server) as store:
        await publish(store, 4)
        assert await folded(store, tmp_path) == [1, 2, 3, 4]
        await restore(store.client, await back_up(store.client, "EVENTS"))
        await publish(store, 2)
        assert await folded(store, tmp_path) == [5, 6]
        assert await folded(store, tmp_path) == []


async def test_a_view_is_kept_at_the_fork_and_rebuilt_beyond_it(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    async with opened(nats_server) as store:
        await publish(store, 3)
        at_fork, beyond = tmp_path / "at", tmp_path / "beyond"
        await folded(store, at_fork)
        backup = await back_up(store.client, "EVENTS")
        await publish(store, 2)
        await folded(store, beyond)
        await restore(store.client, backup)
        await publish(store, 4)  # further than the view beyond the fork has come
        assert await folded(store, at_fork) == [4, 5, 6, 7]
        assert await folded(store, beyond) == [1, 2, 3, 4, 5, 6, 7]


async def test_a_view_ahead_of_the_stream_opens_an_epoch(tmp_path: Path) -> None:
    """The files of nats-server were set back while nothing ran: the view is the only one that knows."""
    with EmbeddedNats(tmp_path) as server:
        async with opened(server) as store:
            await publish(store, 2)
        server.kill()
        shutil.copytree(tmp_path / "jetstream", tmp_path / "copy")
        server.start()
        async with opened(server) as store:
            await publish(store, 3)
            await folded(store, tmp_path / "view")
            before, _ = await epoch_of(store.client, "EVENTS")
        server.kill()
        shutil.rmtree(tmp_path / "jetstream")
        shutil.move(tmp_path / "copy", tmp_path / "jetstream")
        server.start()
        async with opened(server) as store:
            assert await folded(store, tmp_path / "view") == [1, 2]
            after, _ = await epoch_of(store.client, "EVENTS")
            assert after != before


async def test_a_server_set_back_under_a_running_view_ends_it_with_a_new_epoch(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as server:
        async with opened(server) as store:
            await publish(store, 2)
        server.kill()
        shutil.copytree(tmp_path / "jetstream", tmp_path / "copy")
        server.start()
        async with opened(server) as store:
            last = await publish(store, 3)
            before, _ = await epoch_of(store.client, "EVENTS")
            view = GatewayView(None)
            follower = ViewFollower(store, view, lambda _: None)
            task = asyncio.create_task(follower.run())
            assert await follower.tail.wait_for(last, 10)
            server.kill()
            shutil.rmtree(tmp_path / "jetstream")
            shutil.move(tmp_path / "copy", tmp_path / "jetstream")
            await asyncio.to_thread(server.start)
            with pytest.raises(EpochChanged):
                await asyncio.wait_for(asyncio.shield(task), 20)
            view.close()
            after, _ = await epoch_of(store.client, "EVENTS")
            assert after != before
            state = (await request(store.client, "STREAM.INFO.EVENTS", {}))["state"]
            assert state["last_seq"] == 2
