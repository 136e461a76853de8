"""Restore of a stream into a cluster from each node; --cluster runs the suite of the commands over one."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from kit.bus.connection import connect, request
from kit.bus.event_store import EventStore
from kit.bus.stream_copies import open_snapshot, restore_stream
from kit.settings import NatsSettings
from tests.harness.servers.cluster import EmbeddedCluster

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
