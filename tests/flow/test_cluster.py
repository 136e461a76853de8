"""The path of a job over a cluster of three: whatever happens to its nodes, every job ends once and everybody hears it.

A leader is killed, the quorum taken away, every node upgraded and disks slowed here; tests/contract/cluster has losses
at random, without services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path

import pytest

from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_play import bring_back, take_away
from tests.harness.servers.cluster_services import ClusterServices
from tests.harness.servers.cluster_traffic import ClusterTraffic, cluster_traffic
from tests.harness.servers.embedded import S3Server
from tests.harness.servers.slow_disk import is_possible

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running(
    folder: Path, s3: S3Server, told: str = "", *, slow_disks: bool = False
) -> AsyncIterator[tuple[EmbeddedCluster, ClusterServices, ClusterTraffic]]:
    """Run the services on a cluster, and clients of them."""
    with EmbeddedCluster(folder / "nats", slow_disks=slow_disks) as cluster:
        async with (
            ClusterServices(cluster, s3.settings, folder) as services,
            cluster_traffic(services, told) as traffic,
        ):
            yield cluster, services, traffic


async def test_jobs_go_on_when_a_leader_dies_and_when_the_quorum_is_back(tmp_path: Path, s3_server: S3Server) -> None:
    async with running(tmp_path, s3_server) as (cluster, services, traffic):
        traffic.start()
        leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
        await asyncio.to_thread(leader.kill)
        await traffic.until_more(2)
        await asyncio.to_thread(cluster.start)

        for node in cluster.nodes[1:]:
            await asyncio.to_thread(node.kill)
        during = asyncio.create_task(traffic.submit())  # the job that runs now does not end before the quorum is back
        async with asyncio.timeout(60):
            while not traffic.unavailable:
                await asyncio.sleep(0.1)
        for name in services.ports:
            await services.wait_until_unhealthy(name)
        await asyncio.to_thread(cluster.start)
        await services.wait_until_healthy()
        await during
        await traffic.until_more(2)
        await traffic.stop()
        await traffic.check(cluster)
        assert traffic.statuses <= {200, 204}
        assert set(services.starts.values()) == {1}, "a service ended"


async def test_jobs_go_on_over_a_slow_disk_and_when_two_that_hung_go_on(tmp_path: Path, s3_server: S3Server) -> None:
    if not is_possible():
        pytest.skip("no process can be slowed here: the kernel, or a container, has no listener of seccomp")
    async with running(tmp_path, s3_server, slow_disks=True) as (cluster, services, traffic):
        traffic.start()
        leader = await asyncio.to_thread(cluster.leader_of, "EVENTS")
        await take_away(cluster, [leader], "slow")
        await traffic.until_more(2)
        await bring_back(cluster, [leader], "slow")

        await take_away(cluster, cluster.nodes[1:], "slow", delay_s=inf)
        during = asyncio.create_task(traffic.submit())
        async with asyncio.timeout(60):
            while not traffic.unavailable:
                await asyncio.sleep(0.1)
        await bring_back(cluster, cluster.nodes[1:], "slow")
        await during
        await services.wait_until_healthy()
        await traffic.until_more(2)
        await traffic.stop()
        await traffic.check(cluster)
        assert traffic.statuses <= {200, 204}
        assert set(services.starts.values()) == {1}, "a service ended"


async def test_jobs_go_on_while_all_nodes_are_upgraded_and_the_meta_leader_is_killed(
    tmp_path: Path, s3_server: S3Server
) -> None:
    """One node after the other, as docs/operations.md says; then the one that leads the cluster's own log is killed."""
    async with running(tmp_path, s3_server) as (cluster, services, traffic):
        traffic.start()
        for node in cluster.nodes:
            await asyncio.to_thread(node.stop)
            await traffic.until_more(1)
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(cluster.wait_until_ready)
        meta = await asyncio.to_thread(cluster.meta_leader)
        assert meta
        await asyncio.to_thread(meta.kill)
        await traffic.until_more(1)
        await asyncio.to_thread(cluster.start)
        await services.wait_until_healthy()
        await traffic.stop()
        await traffic.check(cluster)
        assert traffic.statuses <= {200, 204}
        assert set(services.starts.values()) == {1}, "a service ended"
