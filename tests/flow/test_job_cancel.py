"""A cancel takes effect in every state, whichever process is down."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from contracts.errors import ErrorCode
from contracts.job import State
from tests.harness.dispatch.dispatcher import Servers, kill, open_dispatcher_harness, shared_servers, workload
from tests.harness.dispatch.scripted_executor import Killed, Script, ScriptedExecutor, Worker, works

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("cancel")) as both:
        yield both


async def works_for_ever(worker: Worker) -> None:
    if await worker.claim():
        await worker.work_until_stopped()


async def is_deaf(worker: Worker) -> None:
    """Hears nothing and dies without a word."""
    await worker.claim()
    await asyncio.sleep(60)


async def never_claims(worker: Worker) -> None:
    await asyncio.sleep(60)


async def dies(worker: Worker) -> None:
    await worker.claim()
    raise Killed


def assert_cancelled(verbs: list[str]) -> None:
    assert verbs[-1] == "cancelled"
    assert verbs.count("cancelled") == 1
    assert "succeeded" not in verbs


@pytest.mark.parametrize(
    ("script", "state"),
    [(works_for_ever, State.RUNNING), (is_deaf, State.RUNNING), (never_claims, State.STARTING)],
    ids=["running", "running and deaf", "starting"],
)
async def test_with_a_worker(servers: Servers, script: Script, state: State) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            await harness.reach(job_id, state)
            await harness.cancel(job_id)
            job = await harness.reach(job_id)
            assert not executor.at_work(), "job.cancelled says that the worker is gone"
        assert job.state is State.CANCELLED
        assert_cancelled(await harness.verbs(job_id))
        if state is State.RUNNING:
            assert len(job.costs) == 1, "what it used is accounted for, deaf or not"


async def test_waiting_for_a_slot(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        async with harness.dispatching(harness.dispatcher(executor, slots=1)):
            first = await harness.submit()
            await harness.reach(first, State.RUNNING)
            second = await harness.submit()
            await harness.reach(second, State.QUEUED)
            await harness.cancel(second)
            assert (await harness.reach(second)).state is State.CANCELLED
            assert (await harness.job(first)).state is State.RUNNING
        await executor.end()


async def test_waiting_for_its_next_attempt(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies, works)
        async with harness.dispatching(harness.dispatcher(executor, backoff_s=30, backoff_max_s=30)):
            job_id = await harness.submit()
            await harness.reach(job_id, State.RETRYING)
            await harness.cancel(job_id)
            assert (await harness.reach(job_id)).state is State.CANCELLED
        assert len(executor.launched) == 1


async def test_while_the_dispatcher_is_down(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        running = asyncio.create_task(harness.dispatcher(executor).run(asyncio.Event()))
        at_work = await harness.submit()
        await harness.reach(at_work, State.RUNNING)
        await kill(running)
        await harness.forget_lease()
        not_queued = await harness.submit()
        for job_id in (at_work, not_queued):
            await harness.cancel(job_id)
        assert executor.at_work(), "workers outlive their dispatcher"
        async with harness.dispatching(harness.dispatcher(executor)):
            for job_id in (at_work, not_queued):
                assert (await harness.reach(job_id)).state is State.CANCELLED
        assert not executor.at_work()
        assert len(executor.launched) == 1


async def test_that_comes_too_late_changes_nothing(servers: Servers) -> None:
    """The worker's last word and the cancel race; whichever is stored first holds, and the job ends once."""
    race = asyncio.Event()

    async def waits(worker: Worker) -> None:
        await worker.claim()
        await race.wait()
        await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, waits)
        async with harness.dispatching(harness.dispatcher(executor)):
            ends: list[State] = []
            for lead_s in (0.0, 0.002, 0.005, 0.01, 0.02):
                race.clear()
                job_id = await harness.submit()
                await harness.reach(job_id, State.RUNNING)
                race.set()
                await asyncio.sleep(lead_s)
                await harness.cancel(job_id)
                ends.append((await harness.reach(job_id)).state)
                verbs = await harness.verbs(job_id)
                assert sum(verbs.count(end) for end in ("succeeded", "cancelled", "failed")) == 1, verbs
        assert set(ends) <= {State.SUCCEEDED, State.CANCELLED}


async def test_a_cancelled_job_may_be_asked_for_and_cancelled_again(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            for attempt in (1, 2, 3):
                job = await harness.reach(job_id, State.RUNNING)
                assert job.attempt == attempt
                await harness.cancel(job_id)
                await harness.reach(job_id, State.CANCELLED)
                if attempt < 3:
                    await harness.retry(job_id)
        verbs = await harness.verbs(job_id)
        assert verbs.count("cancelled") == 3


async def test_beats_a_failure(servers: Servers) -> None:
    """A job that was cancelled is not tried again, however its worker ended."""

    async def fails_when_stopped(worker: Worker) -> None:
        await worker.claim()
        await worker.asked_to_stop.wait()
        await worker.interrupted("out_of_memory", ErrorCode.OUT_OF_MEMORY)

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, fails_when_stopped)
        async with harness.dispatching(harness.dispatcher(executor, workload(max_attempts=5))):
            job_id = await harness.submit()
            await harness.reach(job_id, State.RUNNING)
            await harness.cancel(job_id)
            assert (await harness.reach(job_id)).state is State.CANCELLED
        assert len(executor.launched) == 1
