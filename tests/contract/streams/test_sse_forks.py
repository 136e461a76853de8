"""Event streams over restores of EVENTS: who resumes at, before or after the fork gets each event once, or one gap."""

from __future__ import annotations

import asyncio

import pytest

from contracts.events.base import decode
from tests.harness.servers.embedded import NatsServer
from tests.harness.servers.stream_backups import StreamBackup, back_up, restore
from tests.harness.streams.notifier import Block, NotifierProcess, Publisher, Reader, notifier, publisher

pytestmark = pytest.mark.anyio


async def restored(jobs: Publisher, backup: StreamBackup, events: int) -> None:
    """Restore a backup while no service runs, and store other events before the first service starts."""
    await restore(jobs.client, backup)
    for _ in range(events):
        await jobs.submit()


async def bodies(jobs: Publisher, after: int) -> list[str]:
    """Return the ids of the stored events after a sequence."""
    return [decode(stored.body).id async for stored in jobs.store.history(after)]


async def epoch_given(reader: Reader) -> str:
    """Return the epoch of the cursors that a notifier gives out."""
    async with reader.open("/v1/events?since=3600") as stream:
        return str((await stream.take(1))[0].id).partition(".")[0]


async def resumed(reader: Reader, cursor: str, count: int, *, by_query: bool = False) -> list[Block]:
    """Return what a client gets after its cursor, and check that nothing else follows."""
    path, header = (f"/v1/events?since={cursor}", None) if by_query else ("/v1/events", cursor)
    async with reader.open(path, header) as stream:
        got = await stream.take(count)
        with pytest.raises(TimeoutError):
            await stream.take(1, timeout_s=0.15)
    return got


@pytest.mark.parametrize("ring_events", [1, 1000])
@pytest.mark.parametrize("by_query", [False, True])
async def test_cursors_before_at_and_after_the_fork(nats_server: NatsServer, ring_events: int, by_query: bool) -> None:
    async with publisher(nats_server.settings) as jobs:
        async with notifier(nats_server.settings) as reader:
            for _ in range(5):
                await jobs.submit()
            backup = await back_up(jobs.client, "EVENTS")
            for _ in range(4):
                await jobs.submit()
            old = await epoch_given(reader)
        await restored(jobs, backup, 3)
        async with notifier(nats_server.settings, ring_events=ring_events) as reader:
            new = await epoch_given(reader)
            assert new != old
            await jobs.submit()  # 9, which the old epoch had too, and which a process now has in its ring
            for after in (0, 3, 5):
                got = await resumed(reader, f"{old}.{after}", 9 - after, by_query=by_query)
                assert [block.id for block in got] == [f"{new}.{number}" for number in range(after + 1, 10)]
                assert [block.json["id"] for block in got] == await bodies(jobs, after)
            for after in (6, 9, 4000):
                gap, *got = await resumed(reader, f"{old}.{after}", 5, by_query=by_query)
                assert gap.event == "gap"
                assert gap.json == {"after": f"{old}.{after}", "first_available": f"{new}.6"}
                assert [block.id for block in got] == [f"{new}.{number}" for number in range(6, 10)]
                assert [block.json["id"] for block in got] == await bodies(jobs, 5)
            got = await resumed(reader, f"{new}.7", 2, by_query=by_query)
            assert [block.id for block in got] == [f"{new}.8", f"{new}.9"]


async def test_cursors_over_two_forks(nats_server: NatsServer) -> None:
    async with publisher(nats_server.settings) as jobs:
        epochs: list[str] = []
        backups: list[StreamBackup] = []
        for events, fork_at in ((4, 0), (3, 4), (2, 6)):  # the second backup holds two events of the second epoch
            if fork_at:
                await restore(jobs.client, backups[-1])
            async with notifier(nats_server.settings) as reader:
                for number in range(events):
                    await jobs.submit()
                    if (fork_at, number) in {(0, 3), (4, 1)}:
                        backups.append(await back_up(jobs.client, "EVENTS"))
                epochs.append(await epoch_given(reader))
        async with notifier(nats_server.settings) as reader:
            first, second, third = epochs
            assert await epoch_given(reader) == third
            for cursor, position in ((f"{first}.4", 4), (f"{second}.4", 4), (f"{second}.6", 6), (f"{third}.7", 7)):
                got = await resumed(reader, cursor, 8 - position)
                assert [block.json["id"] for block in got] == await bodies(jobs, position)
            for cursor, position in ((f"{first}.5", 4), (f"{second}.7", 6)):
                gap, *got = await resumed(reader, cursor, 1 + 8 - position)
                assert (gap.event, gap.json["after"]) == ("gap", cursor)
                assert [block.json["id"] for block in got] == await bodies(jobs, position)


async def test_a_restore_under_a_running_notifier_ends_it_and_clients_resume(nats_server: NatsServer) -> None:
    """Also when the restored stream has grown beyond what the process has read, before it looks."""
    async with publisher(nats_server.settings) as jobs:
        with NotifierProcess(nats_server.settings) as process:
            reader = Reader(process.url)
            for _ in range(3):
                await jobs.submit()
            backup = await back_up(jobs.client, "EVENTS")
            lost = await jobs.submit()
            async with reader.open("/v1/events?since=3600") as stream:
                seen = await stream.take(4)
            assert seen[-1].json["subject"] == lost
            await restored(jobs, backup, 6)
            assert process.process
            assert await asyncio.to_thread(process.process.wait, 15) == 75
            await asyncio.to_thread(process.start)
            gap, *got = await resumed(reader, seen[-1].id or "", 7)
            assert gap.event == "gap"
            assert [block.json["id"] for block in got] == await bodies(jobs, 3)
            got = await resumed(reader, seen[-2].id or "", 6)
            assert [block.json["id"] for block in got] == await bodies(jobs, 3)
            await reader.http.aclose()
