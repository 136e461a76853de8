"""Streams that come into a cluster: from one server by a backup, and from fewer replicas by the setting."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from contracts.ids import new_id
from kit.bus.connection import connect, declare, epoch_of, request
from kit.bus.event_store import EventStore
from kit.bus.stream_copies import open_snapshot, restore_stream
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_stores import TENANT, fill, queued
from tests.harness.servers.embedded import EmbeddedNats

pytestmark = pytest.mark.anyio


async def test_a_backup_of_one_server_is_restored_with_three_replicas(tmp_path: Path) -> None:
    (tmp_path / "single").mkdir()
    with EmbeddedNats(tmp_path / "single") as single, EmbeddedCluster(tmp_path / "cluster") as cluster:
        source = await connect(single.settings, "source")
        await declare(source)
        sequences = await fill(EventStore(source), 200)
        async with open_snapshot(source, "EVENTS") as snapshot:
            chunks = [chunk async for chunk in snapshot.chunks]
        await source.close()
        client = await connect(cluster.settings, "target")
        await restore_stream(client, snapshot.config | {"num_replicas": 3}, snapshot.state, chunks)
        await declare(client, 3)
        store = EventStore(client)
        assert [stored.sequence async for stored in store.history(0)] == sequences
        assert await store.publish(queued(new_id("job"))) == sequences[-1] + 1
        info = await request(client, "STREAM.INFO.EVENTS", {})
        assert (info["config"]["num_replicas"], len(info["cluster"]["replicas"])) == (3, 2)
        await client.close()


async def test_services_that_start_at_once_on_an_empty_cluster_declare_the_same(tmp_path: Path) -> None:
    """Nobody answers about a stream while another service is creating or changing it."""
    with EmbeddedCluster(tmp_path) as cluster:
        clients = [await connect(cluster.settings, "test") for _ in range(5)]
        try:
            await asyncio.gather(*(declare(client) for client in clients))
            assert len({await epoch_of(client, "EVENTS") for client in clients}) == 1
            info = await request(clients[0], "STREAM.INFO.EVENTS", {})
            assert info["config"]["num_replicas"] == 3, "as the settings of the connection say"
        finally:
            for client in clients:
                await client.close()


async def test_streams_take_more_replicas_and_fewer(tmp_path: Path) -> None:
    """By the setting, with the events and the epoch."""
    with EmbeddedCluster(tmp_path) as cluster:
        client = await connect(cluster.settings, "test")
        await declare(client, 1)
        store, job_id = EventStore(client), new_id("job")
        sequence = await store.publish(queued(job_id))
        epoch = await epoch_of(client, "EVENTS")
        await declare(client, 3)
        for name in ("EVENTS", "PROGRESS", "LEASES"):
            info = await request(client, f"STREAM.INFO.{name}", {})
            assert info["config"]["num_replicas"] == 3
        await declare(client, 3)
        assert await epoch_of(client, "EVENTS") == epoch
        assert [stored.sequence for stored in await store.load(f"saccade.evt.{TENANT}.job.{job_id}.*")] == [sequence]
        await declare(client, 1)
        info = await request(client, "STREAM.INFO.PROGRESS", {})
        assert info["config"]["num_replicas"] == 1
        await client.close()
