"""A flood from one tenant delays another by at most what is already at work."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from contracts.job import State
from tests.harness.dispatch.dispatcher import Servers, open_dispatcher_harness, shared_servers, workload
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("fairness")) as both:
        yield both


async def takes_a_moment(worker: Worker) -> None:
    if await worker.claim():
        await asyncio.sleep(0.02)
        await worker.succeed()


async def test_a_flood_starves_nobody(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, takes_a_moment)
        flood = [await harness.submit("flood") for _ in range(300)]
        quiet = [await harness.submit("quiet") for _ in range(5)]
        async with harness.dispatching(harness.dispatcher(executor, slots=2)):
            for job_id in quiet:
                assert (await harness.reach(job_id, tenant="quiet")).state is State.SUCCEEDED
            order = [one.tenant for one in executor.launched]
            last = max(number for number, tenant in enumerate(order) if tenant == "quiet")
            # Two slots, turn about: a job of the flood for each of the quiet tenant's, and what went before.
            assert Counter(order[: last + 1])["flood"] <= 2 * len(quiet) + 2, order[: last + 1]
            assert len(flood) > len(order)
        await executor.end()


async def test_limits_hold_per_tenant_and_per_workload(servers: Servers) -> None:
    at_work: Counter[tuple[str, str]] = Counter()
    most: Counter[tuple[str, str]] = Counter()

    async def counts(worker: Worker) -> None:
        one = worker.assignment
        keys = [("tenant", one.tenant), ("workload", one.workload), ("all", "")]
        if await worker.claim():
            at_work.update(keys)
            most.update({key: max(0, at_work[key] - most[key]) for key in keys})
            await asyncio.sleep(0.05)
            at_work.subtract(keys)
            await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, counts)
        known = (workload("echo"), workload("song"))
        limits = {"slots": 4, "tenant_concurrency": 3, "workload_concurrency": 2}
        async with harness.dispatching(harness.dispatcher(executor, *known, **limits)):
            jobs = [
                (await harness.submit(tenant, workload=name), tenant)
                for _ in range(4)
                for tenant in ("acme", "globex")
                for name in ("echo", "song")
            ]
            for job_id, tenant in jobs:
                assert (await harness.reach(job_id, tenant=tenant)).state is State.SUCCEEDED
        assert most["all", ""] == 4, "the slots are used"
        assert most["workload", "echo"] == most["workload", "song"] == 2
        assert max(most["tenant", "acme"], most["tenant", "globex"]) <= 3


async def test_sessions_that_stay_open_keep_no_job_waiting_and_jobs_no_session(servers: Servers) -> None:
    """A session holds its slot for hours: one tenant's would have kept the jobs of all from starting."""
    end = asyncio.Event()

    async def stays(worker: Worker) -> None:
        if await worker.claim():
            await end.wait()
            await worker.succeed()

    async def until_ended(worker: Worker) -> None:
        await (takes_a_moment if worker.assignment.workload == "echo" else stays)(worker)

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, until_ended)
        known = (workload("echo"), replace(workload("live"), kind="session"), workload("long"))
        async with harness.dispatching(harness.dispatcher(executor, *known, slots=2, session_slots=1)):
            live = [await harness.submit("greedy", workload="live") for _ in range(3)]
            await harness.reach(live[0], State.RUNNING, tenant="greedy")
            job = await harness.submit("quiet")
            assert (await harness.reach(job, tenant="quiet")).state is State.SUCCEEDED
            assert await harness.verbs(live[1], "greedy") == ["submitted", "queued"], "it waits for the first session"
            # Jobs that stay take no session's slot either.
            long = [await harness.submit("greedy", workload="long") for _ in range(2)]
            for job_id in long:
                await harness.reach(job_id, State.RUNNING, tenant="greedy")
            end.set()
            for job_id in (*live, *long):
                assert (await harness.reach(job_id, tenant="greedy")).state is State.SUCCEEDED
        await executor.end()


async def test_it_stops_at_any_moment_of_a_flood(servers: Servers) -> None:
    """Stopping must not be lost among events: each of these moments is one in which something just came."""
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, takes_a_moment)
        for _ in range(60):
            await harness.submit("flood")
        for number in range(20):
            try:
                async with harness.dispatching(harness.dispatcher(executor, slots=4)) as dispatcher:
                    while not dispatcher.reconciler.leading:
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(moments.uniform(0.0, 0.08))
            except TimeoutError:
                pytest.fail(f"stop {number} of seed {seed} was not heard")
        await executor.end()
