"""Backup of a cluster, and restore into one: by the commands, and stream by stream from each node."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.__main__ import saccade
from contracts.ids import new_id
from contracts.streams import STREAMS
from kit.bucket import open_bucket
from kit.bus.connection import connect, epoch_of, request
from kit.bus.event_store import EventStore
from kit.bus.stream_copies import open_snapshot, restore_stream
from kit.settings import NatsSettings, as_environment
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_stores import fill, queued, stores_of
from tests.harness.servers.embedded import S3Server

pytestmark = pytest.mark.anyio


async def saccade_command(environment: dict[str, str], *words: str) -> dict[str, object]:
    """Run a command of saccade with these variables."""

    def run() -> dict[str, object]:
        done = CliRunner(env=environment).invoke(saccade, [*words, "--json"])
        assert done.exit_code == 0, done.output + repr(done.exception)
        found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return found

    return await asyncio.to_thread(run)


async def test_a_cluster_is_backed_up_while_a_node_is_away_and_restored(
    cluster: EmbeddedCluster, s3_server: S3Server, tmp_path: Path
) -> None:
    environment = as_environment(cluster.settings, s3_server.settings)
    async with open_bucket(s3_server.settings) as bucket:
        await bucket.create()
        await bucket.put("results/job_1/report.html", b"<p>")
    async with stores_of(cluster) as stores:
        sequences = await fill(stores[0], 300)
        epoch = await epoch_of(stores[0].client, "EVENTS")
        leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
        await asyncio.to_thread(leader.kill)
        backup = str(tmp_path / "backup")
        await asyncio.to_thread(cluster.leader_of, "EVENTS")
        made = await saccade_command(environment, "backup", backup)
        assert made["last_sequence"] == sequences[-1]
        await asyncio.to_thread(cluster.start)
        await asyncio.to_thread(cluster.wait_until_ready)
        for stream in STREAMS:
            await request(stores[0].client, f"STREAM.DELETE.{stream.name}", {})
        async with open_bucket(s3_server.settings) as bucket:
            for key in await bucket.list_keys(""):
                await bucket.delete(key)
        restored = await saccade_command(environment, "restore", backup, "--verify", "--newest")
        assert restored["read_back"] is True
        assert [stored.sequence async for stored in stores[1].history(0)] == sequences
        assert await epoch_of(stores[1].client, "EVENTS") == epoch
        counts = Counter[int]()
        for stream in STREAMS:
            counts[(await request(stores[0].client, f"STREAM.INFO.{stream.name}", {}))["config"]["num_replicas"]] += 1
        assert counts == {3: len(STREAMS)}
        assert await stores[2].publish(queued(new_id("job"))) == sequences[-1] + 1


async def test_a_stream_is_restored_whichever_node_takes_it(cluster: EmbeddedCluster) -> None:
    async with AsyncExitStack() as stack:
        clients = []
        for node in cluster.nodes:
            clients.append(await connect(NatsSettings(url=node.url), node.name))
            stack.push_async_callback(clients[-1].close)
        config = {"name": "COPIED", "subjects": ["copied"], "num_replicas": 3, "allow_direct": True}
        await request(clients[0], "STREAM.CREATE.COPIED", config)
        await clients[0].jetstream().publish("copied", b"1")
        async with open_snapshot(clients[0], "COPIED") as snapshot:
            chunks = [chunk async for chunk in snapshot.chunks]
        for number in range(12):
            client = clients[number % 3]
            await request(client, "STREAM.DELETE.COPIED", {})
            await restore_stream(client, snapshot.config, snapshot.state, chunks)
            found, _ = await EventStore(client, "COPIED").batch(0)
            assert [stored.body for stored in found] == [b"1"], f"round {number}"
        await request(clients[0], "STREAM.DELETE.COPIED", {})
