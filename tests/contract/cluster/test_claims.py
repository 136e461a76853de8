"""Claims of runs by credentials of their own, which may not ask a stream's leader, and by full rights."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from contracts.assignment import Assignment
from contracts.events.job import JobStageCompleted
from contracts.worker_rights import run_grant
from kit.settings import NatsSettings
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.bus.nats_bus import RestrictedEventStore
from modal_workers.runtime.bus.open_bus import open_bus
from tests.harness.runtime.job_driver import JobDriver, open_job_driver
from tests.harness.servers.cluster import ClusterNode, OperatorCluster
from tests.harness.servers.embedded import S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorCluster]:
    with OperatorCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def driver(cluster: OperatorCluster, s3_server: S3Server) -> AsyncIterator[JobDriver]:
    async with open_job_driver(cluster.settings, s3_server.settings) as opened:
        yield opened


def settings_of(cluster: OperatorCluster, access: str, assignment: Assignment, node: ClusterNode) -> NatsSettings:
    if access == "trusted":
        return cluster.settings.model_copy(update={"url": node.url})
    grant = run_grant(assignment.tenant, assignment.job_id, assignment.run_id)
    return cluster.settings_of(cluster.keys_of.tokens.issue(grant, 600), node)


@pytest.mark.parametrize("access", ["credentials", "trusted"])
async def test_a_run_that_nobody_contends_gets_its_claim_and_keeps_it(
    cluster: OperatorCluster, driver: JobDriver, access: str
) -> None:
    for number in range(50):
        assignment = await driver.submit("work 1")
        node = cluster.nodes[number % 3]
        bus = await open_bus(settings_of(cluster, access, assignment, node), assignment)
        claim = Claim(bus, assignment)
        assert await claim.acquire(10), f"run {number} at {node.name}: not ours"
        assert claim.holds(await claim.load()), f"run {number} at {node.name}: its first look says that it lost"
        await bus.close()


@pytest.mark.parametrize("access", ["credentials", "trusted"])
async def test_of_two_processes_of_a_run_one_gets_the_claim(
    cluster: OperatorCluster, driver: JobDriver, access: str
) -> None:
    for number in range(40):
        assignment = await driver.submit("work 1")
        nodes = (cluster.nodes[number % 3], cluster.nodes[(number + 1) % 3])
        buses = [await open_bus(settings_of(cluster, access, assignment, node), assignment) for node in nodes]
        claims = [Claim(bus, assignment) for bus in buses]
        got = await asyncio.gather(*(claim.acquire(10) for claim in claims))
        assert sorted(got) == [False, True], f"run {number}"
        held = [claim.holds(await claim.load()) for claim in claims]
        assert held == got, f"run {number}"
        for bus in buses:
            await bus.close()


async def test_a_read_with_a_runs_credentials_reaches_what_the_run_knows(
    cluster: OperatorCluster, driver: JobDriver
) -> None:
    """The replica that answers is behind: the run waits for it, and no longer than for one that lags."""
    assignment = await driver.submit("work 1")
    bus = await open_bus(settings_of(cluster, "credentials", assignment, cluster.nodes[0]), assignment)
    reader = RestrictedEventStore(bus.client, known=assignment.sequence + 1)  # type: ignore[attr-defined]
    subjects = f"saccade.evt.{assignment.tenant}.job.{assignment.job_id}.*"
    reading = asyncio.create_task(reader.load(subjects))
    await asyncio.sleep(0.2)
    assert not reading.done()
    done = JobStageCompleted(attempt=assignment.attempt, run_id=assignment.run_id, stage="first", duration_s=1)
    sequence = await driver.say(assignment.job_id, done)
    assert (await reading)[-1].sequence == sequence
    never = RestrictedEventStore(bus.client, known=sequence + 1000)  # type: ignore[attr-defined]
    assert (await never.load(subjects))[-1].sequence == sequence, "what it knows of was deleted"
    await bus.close()
