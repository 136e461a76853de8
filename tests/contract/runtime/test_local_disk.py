"""Local disk of workers: full, read-only, large logs, folders of old runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.job import State
from contracts.workload import Compute
from services.dispatcher.executors.executor import CallState, LaunchFailed
from tests.harness.runtime.executor_environment import ExecutorHarness, ExecutorServers, open_harness, serve
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory) as servers:
        yield servers


@pytest.fixture(params=["local"])
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, servers: ExecutorServers
) -> AsyncIterator[ExecutorHarness]:
    async with open_harness(request.param, tmp_path / "data", servers) as harness:
        yield harness


async def test_a_worker_that_shouts_does_not_fill_the_disk(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit("shout 12", "work 2", "shout 1")
    await executor.launch(assignment, WORKLOAD.compute)
    await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    log = harness.folder / "runs" / assignment.run_id / "worker.log"
    assert 0 < log.stat().st_size < 6 * 1024 * 1024


async def test_folders_of_runs_that_ended_long_ago_are_removed(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    old = await harness.driver.submit("work 60")
    alive = await harness.driver.submit("work 60")
    for assignment in (old, alive):
        await executor.launch(assignment, WORKLOAD.compute)
    await executor.cancel(old.run_id)
    assert (await executor.poll(old.run_id)).state is CallState.ENDED
    folders = [harness.folder / "runs" / assignment.run_id for assignment in (old, alive)]
    for folder in folders:
        os.utime(folder, (1.0, 1.0))
    await executor.launch(await harness.driver.submit(), WORKLOAD.compute)
    assert [folder.exists() for folder in folders] == [False, True], "a living worker keeps its folder"
    await executor.cancel(alive.run_id)


async def test_a_full_disk_is_a_clear_refusal(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit()
    folder = harness.folder / "runs" / assignment.run_id
    folder.mkdir(parents=True)
    (folder / "assignment.json").symlink_to("/dev/full")
    with pytest.raises(LaunchFailed, match="is full: free some space"):
        await executor.launch(assignment, Compute())


async def test_a_data_directory_that_cannot_be_written_to_is_a_clear_refusal(harness: ExecutorHarness) -> None:
    harness.folder = Path("/proc/self/saccade")
    with pytest.raises(LaunchFailed, match="data directory"):
        await harness.executor().launch(await harness.driver.submit(), Compute())
