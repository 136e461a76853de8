"""A cluster of three nats-servers for each file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from kit.bus.event_store import EventStore
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_stores import stores_of


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """Start a cluster; a test that kills nodes starts them again."""
    with EmbeddedCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def stores(cluster: EmbeddedCluster) -> AsyncIterator[list[EventStore]]:
    """Open the stream of events at each node."""
    async with stores_of(cluster) as opened:
        yield opened
