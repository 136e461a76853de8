"""Copies of streams in a cluster: a restore from each node, and a snapshot whose leader goes away.

--cluster runs the suite of the commands over one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from nats.aio.client import Client

from kit.bus.connection import connect, request
from kit.bus.event_store import EventStore
from kit.bus.stream_copies import CopyFailed, open_snapshot, restore_stream
from kit.settings import NatsSettings
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_play import bring_back, take_away
from tests.harness.servers.cluster_stores import settings_of

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_a_snapshot_ends_with_an_error_when_the_leader_goes_away(cluster: EmbeddedCluster, fault: str) -> None:
    """And the next one, by another leader, is whole."""
    async with AsyncExitStack() as stack:
        client = await connect(cluster.settings, "test")
        stack.push_async_callback(client.close)
        await request(client, "STREAM.CREATE.LARGE", {"name": "LARGE", "subjects": ["large"], "num_replicas": 3})
        for _ in range(16):
            await client.jetstream(timeout=30).publish("large", os.urandom(900_000))
        leader = await asyncio.to_thread(cluster.leader_of, "LARGE")
        other = next(node for node in cluster.nodes if node is not leader)
        reader = await connect(settings_of(cluster, other), "reader")
        stack.push_async_callback(reader.close)
        with pytest.raises(CopyFailed, match="LARGE stopped"):
            await copied(reader, lambda: take_away(cluster, [leader], fault))
        await bring_back(cluster, [leader], fault)
        await asyncio.to_thread(cluster.wait_until_ready)
        await asyncio.to_thread(cluster.leader_of, "LARGE")
        assert await copied(reader, lambda: asyncio.sleep(0)) > 16 * 900_000
        await request(client, "STREAM.DELETE.LARGE", {})


async def copied(client: Client, in_the_middle: Callable[[], Awaitable[None]]) -> int:
    """Return how many bytes a snapshot has; do something after its first part."""
    async with asyncio.timeout(90), open_snapshot(client, "LARGE") as snapshot:
        count = len(await anext(snapshot.chunks))
        await in_the_middle()
        async for chunk in snapshot.chunks:
            count += len(chunk)
    return count
