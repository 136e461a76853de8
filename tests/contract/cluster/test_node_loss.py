"""Nodes that are killed, hang, are cut off, upgraded or have slow disks: nothing is lost, nothing stored twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from math import inf
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.streams import LIVE_EVENTS, aggregate
from kit.bus.connection import connect, epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import request, stream_info
from kit.bus.leader_reads import has_deleted
from kit.bus.tail import EventTail
from kit.history.history import History
from kit.tasks import end
from tests.harness.servers.cluster import ClusterNode, EmbeddedCluster
from tests.harness.servers.cluster_play import ClusterPlay, bring_back, take_away
from tests.harness.servers.cluster_stores import TENANT, queued, settings_of, stores_of
from tests.harness.servers.embedded import S3Server
from tests.harness.servers.gateway import code_of, running_gateway
from tests.harness.servers.partitioned_cluster import PartitionedCluster
from tests.harness.servers.slow_disk import is_possible

pytestmark = pytest.mark.anyio
FAULTS = ["kill", "pause", "stop", "hold", "reset", "slow"]
#: What a write to a slow disk takes: more than the election of a leader takes, and less.
DELAYS_S = [0.02, 0.3, 3.0, inf]


def slow_disks_or_skip() -> None:
    if not is_possible():
        pytest.skip("no process can be slowed here: the kernel, or a container, has no listener of seccomp")


@pytest.mark.parametrize("fault", ["kill", "pause", "stop", "hold", "slow"])
async def test_the_leader_of_a_stream_goes_away_while_events_are_stored(tmp_path: Path, fault: str) -> None:
    """Every writer goes on meanwhile, also those that are connected to that node."""
    if fault == "slow":
        slow_disks_or_skip()
    with PartitionedCluster(tmp_path, slow_disks=fault == "slow") as cluster:
        async with ClusterPlay(cluster) as play:
            await play.until_more(3)
            leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
            await take_away(cluster, [leader], fault)
            await play.until_more(10)
            await bring_back(cluster, [leader], fault)
            await play.until_more(10)
            await play.finish()
            assert fault != "slow" or (leader.disk and leader.disk.delayed), "no write was delayed"


class Interrupted(EventStore):
    """A store whose first read falls into a time without a leader, longer than a read waits by itself."""

    cluster: EmbeddedCluster
    remaining: ClusterNode
    back: asyncio.Task[None] | None = None

    async def load(self, *given: Any, **more: Any) -> list[StoredEvent]:
        if self.back is None:
            for node in self.cluster.nodes:
                if node is not self.remaining:
                    await asyncio.to_thread(node.kill)
            self.back = asyncio.create_task(self._bring_back())
        return await super().load(*given, **more)

    async def _bring_back(self) -> None:
        await asyncio.sleep(6)
        await asyncio.to_thread(self.cluster.start)


async def test_a_writer_waits_for_the_read_that_says_whether_its_event_is_stored(tmp_path: Path) -> None:
    """What loses an acknowledgement is a lost leader, without which nobody can read either."""
    with EmbeddedCluster(tmp_path) as cluster:
        async with stores_of(cluster) as stores:
            leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
            number = 0 if leader is cluster.nodes[1] else 1  # a leader that is alone goes on answering for a while
            store = Interrupted(stores[number].client)
            store.cluster, store.remaining, message = cluster, cluster.nodes[number], queued(new_id("job"))
            first = await store.publish(message)
            again = await store.publish(message, after=0, among=message.subject, deadline_s=90)
            assert store.back
            await store.back
            assert again == first


async def test_a_node_that_lacks_the_newest_events_does_not_pass_for_a_stream_that_was_set_back(tmp_path: Path) -> None:
    """It was cut off, and is alone then: after a while it answers about the stream although no node leads it."""
    with PartitionedCluster(tmp_path) as cluster:
        async with stores_of(cluster) as stores:
            leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
            behind = next(node for node in cluster.nodes if node is not leader)
            client = await connect(settings_of(cluster, leader), "tail")
            writer, tail = EventStore(client), EventTail(EventStore(client), lambda _: None, live=LIVE_EVENTS, name="t")
            following = asyncio.create_task(tail.run())
            await asyncio.wait_for(tail.caught_up.wait(), 60)
            cluster.isolate(behind, "reset")
            newest = [await writer.publish(queued(new_id("job")), deadline_s=150) for _ in range(5)][-1]
            assert await tail.wait_for(newest, 30)
            others = [node for node in cluster.nodes if node is not behind]
            for node in others:
                await asyncio.to_thread(node.kill)
            alone = stores[cluster.nodes.index(behind)].client
            async with asyncio.timeout(60):
                while not (said := await info_of_events(alone)) or said["state"]["last_seq"] >= newest:
                    await asyncio.sleep(0.2)
            assert not said["cluster"].get("leader")
            with pytest.raises(SaccadeError) as raised:  # a range that ends early would pass for a complete one
                [event async for event in History(EventStore(alone)).read(0, newest)]
            assert raised.value.code is ErrorCode.BUS_UNAVAILABLE
            epoch = tail.epoch
            await asyncio.sleep(5)  # more than two checks of the tail
            cluster.heal()
            for node in others:
                await asyncio.to_thread(node.start)
            assert await tail.wait_for(await writer.publish(queued(new_id("job")), deadline_s=150), 60)
            assert not following.done()
            assert (await epoch_of(client, "EVENTS"))[0] == epoch
            await end(following)
            await client.close()


async def test_whether_an_event_was_deleted_is_not_said_by_a_node_that_has_it_still(tmp_path: Path) -> None:
    """It was cut off when the event was deleted, and is alone then."""
    with PartitionedCluster(tmp_path) as cluster:
        async with stores_of(cluster) as stores:
            leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
            behind = next(node for node in cluster.nodes if node is not leader)
            store = stores[cluster.nodes.index(leader)]
            old, newest = await store.publish(queued(new_id("job"))), await store.publish(queued(new_id("job")))
            assert not await has_deleted(store.client, "EVENTS", old, newest)
            cluster.isolate(behind, "reset")
            await request(store.client, "STREAM.PURGE.EVENTS", {"seq": newest}, 60)
            assert await has_deleted(store.client, "EVENTS", old, newest)
            for node in cluster.nodes:
                if node is not behind:
                    await asyncio.to_thread(node.kill)
            alone = stores[cluster.nodes.index(behind)].client
            async with asyncio.timeout(60):
                while not (said := await info_of_events(alone)) or said["cluster"].get("leader"):
                    await asyncio.sleep(0.2)
            assert said["state"]["first_seq"] <= old
            with pytest.raises(SaccadeError) as raised:
                await has_deleted(alone, "EVENTS", old, newest)
            assert raised.value.code is ErrorCode.BUS_UNAVAILABLE


async def test_a_leader_that_is_cut_off_makes_no_conflict(tmp_path: Path) -> None:
    """It does not know what the next leader has stored, and refuses what follows that."""
    with PartitionedCluster(tmp_path) as cluster:
        async with stores_of(cluster) as stores:
            leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
            old = cluster.nodes.index(leader)
            job_id, among = (found := new_id("job")), aggregate(TENANT, "job", found)
            cluster.isolate(leader, "reset")
            first = await stores[(old + 1) % 3].publish(queued(job_id), after=0, among=among, deadline_s=60)
            writing = asyncio.create_task(stores[old].publish(queued(job_id), after=first, among=among, deadline_s=90))
            await asyncio.sleep(1)
            cluster.heal()
            assert await writing > first


async def info_of_events(client: Client) -> dict[str, Any] | None:
    """Return what a node says of EVENTS, or None if it says nothing."""
    with contextlib.suppress(SaccadeError):
        return await stream_info(client, "EVENTS", 1.0)
    return None


@pytest.mark.soak
@pytest.mark.timeout(14_400)  # a soak is long; each wait in it has a limit of its own
async def test_nodes_go_away_at_random_while_events_are_stored(tmp_path: Path, seed: int, soak_runs: int) -> None:
    """``make soak`` plays 300 rounds."""
    dice, met = random.Random(seed), Counter[str]()
    faults = FAULTS if is_possible() else [fault for fault in FAULTS if fault != "slow"]
    with PartitionedCluster(tmp_path, slow_disks=is_possible()) as cluster:
        async with ClusterPlay(cluster, told=f"--seed {seed}") as play:
            for _ in range(max(2, soak_runs * 3 // 2) if soak_runs > 6 else 2):
                fault = dice.choice(faults)
                # A node that is cut off from two others that do not run is alone anyway.
                nodes = dice.sample(cluster.nodes, 1 if fault in ("hold", "reset") else dice.choice([1, 1, 1, 2, 3]))
                # Killed in the middle of its writes, too.
                kinds = [fault, "kill"] if fault == "slow" and dice.random() < 0.5 else [fault]
                delay_s = dice.choice(DELAYS_S)
                for kind in kinds:
                    await take_away(cluster, nodes, kind, delay_s=delay_s)
                    await asyncio.sleep(dice.uniform(0, 6))
                for kind in kinds:
                    await bring_back(cluster, nodes, kind)
                await play.until_more(dice.randrange(1, 20))
                met[f"{' and '.join(kinds)} of {len(nodes)}"] += 1
            await play.finish()
            print(f"seed {seed}: {len(play.writers.acknowledged)} events acknowledged, {dict(met)}")


@pytest.mark.parametrize("fault", ["kill", "slow"])
async def test_without_a_quorum_nothing_is_accepted_and_then_everything_goes_on(
    tmp_path: Path, s3_server: S3Server, fault: str
) -> None:
    """Two nodes are gone, or their disks hang."""
    if fault == "slow":
        slow_disks_or_skip()
    with EmbeddedCluster(tmp_path / "cluster", slow_disks=fault == "slow") as cluster:
        settings = settings_of(cluster, cluster.nodes[0])
        async with running_gateway(settings, s3_server.settings, tmp_path) as gateway:
            body = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 1000}
            first = await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "before"})
            assert first.status_code == 201
            await take_away(cluster, cluster.nodes[1:], fault, delay_s=inf)
            store, job_id = gateway.store, new_id("job")
            with pytest.raises(SaccadeError) as raised:
                await store.publish(queued(job_id), deadline_s=1)
            assert raised.value.code is ErrorCode.BUS_UNAVAILABLE
            answer = await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "without"})
            assert (answer.status_code, code_of(answer)) == (503, "bus_unavailable")
            assert int(answer.headers["retry-after"]) > 0
            await bring_back(cluster, cluster.nodes[1:], fault)
            await asyncio.to_thread(cluster.wait_until_ready)
            async with asyncio.timeout(60):
                while (
                    answer := await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "without"})
                ).status_code == 503:
                    await asyncio.sleep(0.2)
            assert answer.status_code == 201
            again = await gateway.http.post("/v1/uploads", json=body, headers={"Idempotency-Key": "before"})
            assert again.json()["id"] == first.json()["id"]
            assert (await gateway.http.get(f"/v1/uploads/{answer.json()['id']}")).status_code == 200
