"""Epochs of a stream over backups: which cursors stay good, with a real nats-server and its own snapshots."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from contracts.events import Message, encode
from contracts.events.base import Cursor
from contracts.events.job import JobQueued
from contracts.ids import new_id
from contracts.streams import CALLBACKS, EVENTS
from kit.bus.connection import connect, declare, epoch_of, request
from kit.bus.event_store import EventStore
from kit.bus.lineage import (
    EPOCHS_KEY,
    INCARNATION_KEY,
    Epoch,
    Lineage,
    metadata_that_keeps_the_epoch,
    open_epoch,
    open_epoch_if_behind,
    position_of_stream,
)
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.servers.event_stores import opened
from tests.harness.servers.stream_backups import back_up, restore

pytestmark = pytest.mark.anyio


def queued() -> Message:
    return encode(JobQueued(position=0), tenant="acme", subject_id=new_id("job"), source="/test")


async def publish(store: EventStore, count: int) -> int:
    """Publish events in order and return the last sequence."""
    for _ in range(count):
        last = await store.publish(queued())
    return last


async def positions(store: EventStore, *cursors: tuple[str, int]) -> list[int | None]:
    """Return what cursors stand for in the stream as it is now."""
    lineage = (await position_of_stream(store.client, EVENTS.name)).lineage
    return [lineage.position_of(Cursor(*cursor)) for cursor in cursors]


async def metadata(store: EventStore, stream: str = "EVENTS") -> dict[str, str]:
    config = (await request(store.client, f"STREAM.INFO.{stream}", {}))["config"]
    return {key: value for key, value in (config.get("metadata") or {}).items() if key.startswith("saccade.")}


async def test_a_stream_without_metadata_keeps_its_epoch_at_the_upgrade(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        epoch, _ = await epoch_of(store.client, "EVENTS")
        config = (await request(store.client, "STREAM.INFO.EVENTS", {}))["config"]
        await request(store.client, "STREAM.UPDATE.EVENTS", config | {"metadata": {}})
        assert await metadata(store) == {}
        assert (await epoch_of(store.client, "EVENTS"))[0] == epoch  # as a service of the version before derives it
        await asyncio.gather(*(declare(store.client) for _ in range(4)))
        assert await metadata(store) == {EPOCHS_KEY: str(Lineage((Epoch(epoch),))), INCARNATION_KEY: epoch}
        assert (await epoch_of(store.client, "EVENTS"))[0] == epoch
        assert await metadata(store, CALLBACKS.name) == {}  # nobody keeps positions in it


async def test_services_that_start_at_once_on_an_empty_server_agree(nats_server: EmbeddedNats) -> None:
    clients = [await connect(nats_server.settings, "test") for _ in range(5)]
    await asyncio.gather(*(declare(client) for client in clients))
    assert len({await epoch_of(client, "EVENTS") for client in clients}) == 1
    for client in clients:
        await client.close()


async def test_a_service_that_comes_between_creation_and_lineage_of_another_goes_on(nats_server: EmbeddedNats) -> None:
    first, second = await connect(nats_server.settings, "first"), await connect(nats_server.settings, "second")

    class Slow:
        """Learns that there is no stream, and says so after another service has made them."""

        _server_info = first._server_info

        async def request(self, subject: str, body: bytes, timeout: float) -> Msg:
            answer = await first.request(subject, body, timeout=timeout)
            if subject.endswith("STREAM.INFO.EVENTS") and b"10059" in answer.data:
                await declare(second)
            return answer

    await declare(Slow(), nats_server.settings.replicas)  # type: ignore[arg-type] # all that it needs of a connection
    assert await metadata(EventStore(first)) == await metadata(EventStore(second)) != {}
    await first.close()
    await second.close()


async def test_another_change_of_the_configuration_keeps_the_lineage(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        await publish(store, 3)
        lineage = await open_epoch(store.client, "EVENTS", 2)
        config = (await request(store.client, "STREAM.INFO.EVENTS", {}))["config"]
        await request(store.client, "STREAM.UPDATE.EVENTS", config | {"max_bytes": 1 << 30})
        await declare(store.client)
        assert (await position_of_stream(store.client, "EVENTS")).lineage == lineage


async def test_a_restored_backup_of_the_newest_state_costs_no_cursor(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        await publish(store, 5)
        epoch, _ = await epoch_of(store.client, "EVENTS")
        await restore(store.client, await back_up(store.client, "EVENTS"))
        await declare(store.client)
        await publish(store, 2)
        again, last = await epoch_of(store.client, "EVENTS")
        assert last == 7
        assert await positions(store, (epoch, 3), (epoch, 5), (again, 7)) == [3, 5, 7]


async def test_a_restore_that_knows_that_it_is_the_newest_state_keeps_the_epoch(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        await publish(store, 5)
        epoch, _ = await epoch_of(store.client, "EVENTS")
        backup = await back_up(store.client, "EVENTS")
        kept = metadata_that_keeps_the_epoch(backup.config["metadata"])
        await restore(store.client, backup, backup.config | {"metadata": kept})
        await declare(store.client)
        assert await epoch_of(store.client, "EVENTS") == (epoch, 5)
        # The next backup, restored by hand, is noticed again.
        await restore(store.client, await back_up(store.client, "EVENTS"))
        assert (await epoch_of(store.client, "EVENTS"))[0] != epoch


async def test_a_restore_to_an_older_point_forks_there_also_when_events_were_stored_since(
    nats_server: EmbeddedNats,
) -> None:
    """Events may be stored before a service declares the streams: the fork is where the restored events end."""
    async with opened(nats_server) as store:
        await publish(store, 5)
        epoch, _ = await epoch_of(store.client, "EVENTS")
        backup = await back_up(store.client, "EVENTS")
        await publish(store, 3)
        await restore(store.client, backup)
        before, _ = await epoch_of(store.client, "EVENTS")  # what a process says that may not write it
        await publish(store, 4)
        await asyncio.gather(*(declare(store.client) for _ in range(3)))
        again, last = await epoch_of(store.client, "EVENTS")
        assert (again, last) == (before, 9)
        assert again != epoch
        found = await positions(store, (epoch, 5), (epoch, 6), (epoch, 8), (again, 6), (again, 9), ("", 0))
        assert found == [5, None, None, 6, 9, None]


async def test_two_forks_in_a_row_keep_what_each_shares_with_today(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        epochs = [(await epoch_of(store.client, "EVENTS"))[0]]
        await publish(store, 4)
        oldest = await back_up(store.client, "EVENTS")
        await publish(store, 6)
        backup = await back_up(store.client, "EVENTS")
        await publish(store, 10)
        await restore(store.client, backup)  # at 10
        await declare(store.client)
        epochs.append((await epoch_of(store.client, "EVENTS"))[0])
        await publish(store, 3)
        later = await back_up(store.client, "EVENTS")
        await publish(store, 2)
        await restore(store.client, later)  # at 13, of the second epoch
        await declare(store.client)
        epochs.append((await epoch_of(store.client, "EVENTS"))[0])
        first, second, third = epochs
        await publish(store, 5)
        asked = (first, 10), (first, 11), (second, 9), (second, 13), (second, 14), (third, 18)
        assert await positions(store, *asked) == [10, None, 9, 13, None, 18]
        await restore(store.client, oldest)  # knows of neither: their cursors get a gap
        await declare(store.client)
        assert await positions(store, (first, 4), (first, 5), (second, 3), (third, 3)) == [4, None, None, None]


async def test_files_that_were_set_back_under_the_server_open_an_epoch(tmp_path: Path) -> None:
    """The stream has its creation time then: only who read further before can tell."""
    with EmbeddedNats(tmp_path) as server:
        async with opened(server) as store:
            await publish(store, 3)
        server.kill()
        shutil.copytree(tmp_path / "jetstream", tmp_path / "copy")
        server.start()
        async with opened(server) as store:
            seen = Cursor(*await epoch_of(store.client, "EVENTS"))
            assert seen.sequence == 3
            seen = Cursor(seen.epoch, await publish(store, 4))
            server.kill()
            shutil.rmtree(tmp_path / "jetstream")
            shutil.move(tmp_path / "copy", tmp_path / "jetstream")
            await asyncio.to_thread(server.start)
            await declare(store.client)
            assert await epoch_of(store.client, "EVENTS") == (seen.epoch, 3)
            await asyncio.gather(*(open_epoch_if_behind(store.client, "EVENTS", seen) for _ in range(3)))
            await open_epoch_if_behind(store.client, "EVENTS", seen)  # it is explained now
            epoch, _ = await epoch_of(store.client, "EVENTS")
            await publish(store, 6)
            assert await positions(store, (seen.epoch, 3), (seen.epoch, 4), (epoch, 9)) == [3, None, 9]
            await open_epoch_if_behind(store.client, "EVENTS", Cursor("unknown", 99))  # says nothing of this stream
            assert (await epoch_of(store.client, "EVENTS"))[0] == epoch


def test_a_lineage_reads_what_it_writes_and_nothing_else() -> None:
    lineage = Lineage((Epoch("a"),)).forked(5, "b").forked(9, "c").forked(7, "d")
    assert Lineage.parse(str(lineage)) == lineage
    assert [epoch.until for epoch in lineage.epochs] == [5, 7, 7, None]
    assert lineage.current == Epoch("d", 7)
    assert [lineage.shared_with(Cursor(epoch, 8)) for epoch in ("a", "b", "c", "d", "e")] == [5, 7, 7, 8, 0]
    for text in ("", "{}", "[]", "[1]", '[{"id":"a"}]', '[{"id":"a","first":0,"until":3}]', "nonsense"):
        with pytest.raises(ValueError, match=r"."):
            Lineage.parse(text)
