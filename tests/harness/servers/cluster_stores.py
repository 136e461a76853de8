"""Connections to every node of a cluster, and events to store by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from contracts.events import Message, encode
from contracts.events.job import JobQueued
from contracts.ids import new_id
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings
from tests.harness.servers.cluster import ClusterNode, EmbeddedCluster

TENANT = "acme"


def settings_of(cluster: EmbeddedCluster, node: ClusterNode) -> NatsSettings:
    """Return the settings of a client that connects to one node first, and to another one when that is away."""
    urls = [node.url, *(other.url for other in cluster.nodes if other is not node)]
    return cluster.settings.model_copy(update={"url": ",".join(urls)})


@asynccontextmanager
async def stores_of(cluster: EmbeddedCluster, stream: str = "EVENTS") -> AsyncIterator[list[EventStore]]:
    """Connect to each node, one after the other, and declare the streams."""
    async with AsyncExitStack() as stack:
        stores = []
        for node in cluster.nodes:
            client = await connect(NatsSettings(url=node.url), node.name)
            stack.push_async_callback(client.close)
            stores.append(EventStore(client, stream))
        await declare(stores[0].client, cluster.settings.replicas)
        yield stores


def queued(job_id: str, position: int = 1) -> Message:
    """Return an event of a job; each call makes another one."""
    return encode(JobQueued(position=position), tenant=TENANT, subject_id=job_id, source="/test")


async def publish(store: EventStore, job_id: str, count: int) -> list[int]:
    """Store events of one job, one after the other."""
    return [await store.publish(queued(job_id, position), deadline_s=60) for position in range(count)]


async def fill(store: EventStore, count: int) -> list[int]:
    """Store events of as many jobs at the same time."""
    return sorted(await asyncio.gather(*(store.publish(queued(new_id("job")), deadline_s=60) for _ in range(count))))
