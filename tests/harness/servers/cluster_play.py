"""Writers at every node of a cluster and a tail of what they store, while nodes go away; then a check of all of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack
from typing import Final, Self

from contracts.ids import new_id
from contracts.streams import LIVE_EVENTS, aggregate
from kit.bus.connection import connect, declare, epoch_of
from kit.bus.event_store import EventStore
from kit.bus.tail import EventTail
from kit.tasks import end
from tests.harness.servers.cluster import ClusterNode, EmbeddedCluster
from tests.harness.servers.cluster_stores import TENANT, queued, settings_of
from tests.harness.servers.partitioned_cluster import PartitionedCluster

#: How long each write to a slow disk takes.
SLOW_S: Final = 0.3


class Writers:
    """Write events of their own jobs, each by a connection of its own, and note what was acknowledged."""

    def __init__(self, stores: list[EventStore]) -> None:
        self.acknowledged: dict[int, str] = {}
        #: Events of each writer.
        self.counts = [0] * len(stores)
        self._stores = stores
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(len(self._stores))]

    async def stop(self) -> None:
        """Wait until each has its last acknowledgement."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def check(self, told: str) -> None:
        """Check that no writer has failed."""
        failed = [task for task in self._tasks if task.done() and task.exception()]
        assert not failed, f"{failed[0].exception()!r} {told}"

    async def _write(self, number: int) -> None:
        """Store one event of a job after the other, each on condition that it follows the one before."""
        store = self._stores[number]
        job_id, newest = new_id("job"), 0
        while not self._stopping:
            message = queued(job_id)
            newest = await store.publish(message, after=newest, among=aggregate(TENANT, "job", job_id), deadline_s=90)
            assert newest not in self.acknowledged
            self.acknowledged[newest] = message.id
            self.counts[number] += 1
            await asyncio.sleep(0.01)


async def check(store: EventStore, seen: list[tuple[int, str]], writers: Writers, first: int, told: str = "") -> None:
    """Check that the stream and a tail have each acknowledged event once, and in order."""
    stored = [event async for event in store.history(first)]
    by_sequence = {event.sequence: event for event in stored}
    lost = [sequence for sequence in writers.acknowledged if sequence not in by_sequence]
    assert lost == [], f"acknowledged and lost {told}"
    ids = [event.body for event in stored]
    assert len(set(ids)) == len(ids), f"stored twice {told}"
    assert len(stored) == len(writers.acknowledged), f"stored, and nobody was told {told}"
    assert [sequence for sequence, _ in seen] == sorted(by_sequence), f"the tail {told}"


async def take_away(
    cluster: EmbeddedCluster, nodes: Iterable[ClusterNode], fault: str, *, delay_s: float = SLOW_S
) -> None:
    """Let nodes go away: kill or end them, stop their processes, cut them off from the others, or slow their disks.

    ``delay_s`` is how long each write to a slow disk takes.
    """
    for node in nodes:
        if fault == "slow":
            assert node.disk
            node.disk.slow(delay_s)
        elif fault in ("hold", "reset"):
            assert isinstance(cluster, PartitionedCluster)
            cluster.isolate(node, "hold" if fault == "hold" else "reset")
        else:
            await asyncio.to_thread({"kill": node.kill, "pause": node.pause, "stop": node.stop}[fault])


async def bring_back(cluster: EmbeddedCluster, nodes: Iterable[ClusterNode], fault: str) -> None:
    """End what ``take_away`` has done."""
    if isinstance(cluster, PartitionedCluster):
        cluster.heal()
    for node in nodes:
        if fault == "slow":
            assert node.disk
            node.disk.slow(0)
        elif fault == "pause":
            node.resume()
        elif fault in ("kill", "stop"):
            await asyncio.to_thread(node.start)


class ClusterPlay:
    """Writers at every node, a tail of the events, and faults."""

    def __init__(self, cluster: EmbeddedCluster, told: str = "") -> None:
        self.cluster, self.told = cluster, told
        self.seen: list[tuple[int, str]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        stores = []
        for node in [*self.cluster.nodes, self.cluster.nodes[0]]:
            client = await connect(settings_of(self.cluster, node), node.name)
            self._stack.push_async_callback(client.close)
            stores.append(EventStore(client))
        self.reader = stores.pop()
        await declare(self.reader.client, 3)
        self.epoch, self.first = await epoch_of(self.reader.client, "EVENTS")
        self.tail = EventTail(self.reader, self._on_event, live=LIVE_EVENTS, name="test")
        self.following = asyncio.create_task(self.tail.run(self.first))
        self._stack.push_async_callback(end, self.following)
        async with asyncio.timeout(30):
            await self.tail.caught_up.wait()
        self.writers = Writers(stores)
        self.writers.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.cluster.nodes:
            if node.disk:
                node.disk.slow(0)
            if node.running:
                node.resume()
        if isinstance(self.cluster, PartitionedCluster):
            self.cluster.heal()
        await self._stack.aclose()

    def _on_event(self, stored: object) -> None:
        self.seen.append((stored.sequence, stored.subject))  # type: ignore[attr-defined]

    async def until_more(self, count: int) -> None:
        """Wait until so many more events were acknowledged to each writer."""
        wanted = [counted + count for counted in self.writers.counts]
        async with asyncio.timeout(120):
            while any(counted < least for counted, least in zip(self.writers.counts, wanted, strict=True)):
                self.writers.check(self.told)
                assert not self.following.done(), f"the tail ended: {self.following} {self.told}"
                await asyncio.sleep(0.02)

    async def finish(self) -> None:
        """Stop the writers, and check what is stored."""
        await self.writers.stop()
        await asyncio.to_thread(self.cluster.wait_until_ready)
        assert await self.tail.wait_for(max(self.writers.acknowledged), 60), f"the tail lags {self.told}"
        await check(self.reader, self.seen, self.writers, self.first, self.told)
        assert (await epoch_of(self.reader.client, "EVENTS"))[0] == self.epoch, f"an epoch was opened {self.told}"
        assert not self.following.done()
