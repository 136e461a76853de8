"""Nodes that are killed, do not answer, or are upgraded: nothing acknowledged is lost, nothing is stored twice."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.streams import LIVE_EVENTS, aggregate
from kit.bus.connection import connect, declare, epoch_of
from kit.bus.event_store import EventStore
from kit.bus.tail import EventTail
from kit.tasks import end
from tests.harness.servers.cluster import ClusterNode, EmbeddedCluster
from tests.harness.servers.cluster_stores import TENANT, queued, settings_of
from tests.harness.servers.embedded import S3Server
from tests.harness.servers.gateway import code_of, running_gateway

pytestmark = pytest.mark.anyio


class Writers:
    """Write events of their own jobs, each by a connection of its own, and note what was acknowledged."""

    def __init__(self, stores: list[EventStore]) -> None:
        self.acknowledged: dict[int, str] = {}
        self._stores = stores
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._write(store)) for store in self._stores]

    async def stop(self) -> None:
        """Wait until each has its last acknowledgement."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _write(self, store: EventStore) -> None:
        """Store one event of a job after the other, each on condition that it follows the one before."""
        job_id, newest = new_id("job"), 0
        while not self._stopping:
            message = queued(job_id)
            newest = await store.publish(message, after=newest, among=aggregate(TENANT, "job", job_id), deadline_s=90)
            assert newest not in self.acknowledged
            self.acknowledged[newest] = message.id
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


@pytest.mark.parametrize("fault", ["kill", "pause", "stop"])
async def test_the_leader_of_a_stream_goes_away_while_events_are_stored(tmp_path: Path, fault: str) -> None:
    with EmbeddedCluster(tmp_path) as cluster:
        async with Play(cluster) as play:
            await asyncio.sleep(0.5)
            leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
            await play.take_away(leader, fault)
            before = len(play.writers.acknowledged)
            await play.until_more(before + 30)
            await play.bring_back(leader, fault)
            await play.until_more(len(play.writers.acknowledged) + 30)
            await play.finish()


@pytest.mark.soak
@pytest.mark.timeout(7200)  # a soak is long; each wait in it has a limit of its own
async def test_nodes_go_away_at_random_while_events_are_stored(tmp_path: Path, seed: int, soak_runs: int) -> None:
    dice = random.Random(seed)
    with EmbeddedCluster(tmp_path) as cluster:
        async with Play(cluster, told=f"seed {seed}") as play:
            for _ in range(max(2, soak_runs // 3)):
                nodes = dice.sample(cluster.nodes, dice.choice([1, 1, 1, 2, 3]))
                faults = [dice.choice(["kill", "kill", "pause", "stop"]) for _ in nodes]
                for node, fault in zip(nodes, faults, strict=True):
                    await play.take_away(node, fault)
                await asyncio.sleep(dice.uniform(0, 6))
                for node, fault in zip(nodes, faults, strict=True):
                    await play.bring_back(node, fault)
                await play.until_more(len(play.writers.acknowledged) + dice.randrange(1, 60))
            await play.finish()


class Play:
    """Writers at every node, a tail of the events, and faults."""

    def __init__(self, cluster: EmbeddedCluster, told: str = "") -> None:
        self.cluster, self.told = cluster, told
        self.seen: list[tuple[int, str]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Play:
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
            if node.running:
                node.resume()
        await self._stack.aclose()

    def _on_event(self, stored: object) -> None:
        self.seen.append((stored.sequence, stored.subject))  # type: ignore[attr-defined]

    async def take_away(self, node: ClusterNode, fault: str) -> None:
        await asyncio.to_thread({"kill": node.kill, "pause": node.pause, "stop": node.stop}[fault])

    async def bring_back(self, node: ClusterNode, fault: str) -> None:
        await asyncio.to_thread(node.resume if fault == "pause" else node.start)

    async def until_more(self, count: int) -> None:
        """Wait until so many events were acknowledged."""
        async with asyncio.timeout(120):
            while len(self.writers.acknowledged) < count:
                failed = [task for task in self.writers._tasks if task.done() and task.exception()]
                assert not failed, f"{failed[0].exception()!r} {self.told}"
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


async def test_without_a_quorum_nothing_is_accepted_and_then_everything_goes_on(
    tmp_path: Path, s3_server: S3Server
) -> None:
    with EmbeddedCluster(tmp_path / "cluster") as cluster:
        settings = settings_of(cluster, cluster.nodes[0])
        async with running_gateway(settings, s3_server.settings, tmp_path) as gateway:
            body = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 1000}
            first = await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "before"})
            assert first.status_code == 201
            for node in cluster.nodes[1:]:
                await asyncio.to_thread(node.kill)
            store, job_id = gateway.store, new_id("job")
            with pytest.raises(SaccadeError) as raised:
                await store.publish(queued(job_id), deadline_s=1)
            assert raised.value.code is ErrorCode.BUS_UNAVAILABLE
            answer = await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "without"})
            assert (answer.status_code, code_of(answer)) == (503, "bus_unavailable")
            assert int(answer.headers["retry-after"]) > 0
            await asyncio.to_thread(cluster.start)
            async with asyncio.timeout(60):
                while (
                    answer := await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "without"})
                ).status_code == 503:
                    await asyncio.sleep(0.2)
            assert answer.status_code == 201
            again = await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "before"})
            assert again.json()["id"] == first.json()["id"]
            assert (await gateway.http.get(f"/v1/uploads/{answer.json()['id']}")).status_code == 200
