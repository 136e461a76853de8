"""A worker that reports success and then hangs: whichever dispatcher leads by then ends it, and it occupies no slot."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from contracts.job import Job, State
from kit.settings import inherited_environment
from services.dispatcher.executors.local_executor import LocalExecutor
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, kill, open_dispatcher_harness, shared_servers
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio
#: SIGTERM does not end it: 5 s to exit, 1 s of SIGTERM, and what a busy machine takes.
END_S = 60.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running


@pytest.fixture
async def harness(servers: Servers) -> AsyncIterator[DispatcherHarness]:
    async with open_dispatcher_harness(*servers) as opened:
        yield opened


@pytest.fixture
async def executor(servers: Servers, tmp_path: Path) -> AsyncIterator[LocalExecutor]:
    nats, s3 = servers
    environment = inherited_environment() | {"WORKER_CATALOG": "tests.workers"}
    made = LocalExecutor(tmp_path, nats.settings, s3.settings, slots=1, environment=environment)
    yield made
    for folder in (tmp_path / "runs").glob("run_*"):
        await made.cancel(folder.name)
    await made.close()


async def submit(harness: DispatcherHarness, *script: str) -> str:
    return await harness.submit(workload=WORKLOAD.name, workload_version=WORKLOAD.version, params={"script": script})


async def succeeded(harness: DispatcherHarness, job_id: str) -> Job:
    job = await harness.reach(job_id, timeout_s=60)
    assert job.state is State.SUCCEEDED, job
    return job


def worker_of(executor: LocalExecutor, job: Job) -> psutil.Process:
    """Return the process of a job's worker, which still runs."""
    assert job.call_id
    process = executor._process(job.call_id)
    assert process, "the worker has ended by itself"
    return process


async def until_ended(worker: psutil.Process) -> None:
    async with asyncio.timeout(END_S):
        while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.1)


async def test_it_is_ended_and_the_next_job_does_not_wait_for_that(
    harness: DispatcherHarness, executor: LocalExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with harness.dispatching(harness.dispatcher(executor, WORKLOAD, slots=1)):
        job = await succeeded(harness, await submit(harness, "stage first", "hang_at_exit"))
        worker = worker_of(executor, job)
        await succeeded(harness, await submit(harness, "stage first"))
        await until_ended(worker)
        assert f"after the end of {job.id}: ending it" in caplog.text
        again = await harness.job(job.id)
        assert (again.state, again.costs) == (State.SUCCEEDED, job.costs), "the time that it hung is not billed"


async def test_it_is_ended_by_the_next_leader(harness: DispatcherHarness, executor: LocalExecutor) -> None:
    running = asyncio.create_task(harness.dispatcher(executor, WORKLOAD).run(asyncio.Event()))
    job = await succeeded(harness, await submit(harness, "stage first", "hang_at_exit"))
    await kill(running)
    worker = worker_of(executor, job)
    await harness.forget_lease()
    async with harness.dispatching(harness.dispatcher(executor, WORKLOAD)):
        await until_ended(worker)
