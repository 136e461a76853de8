"""A whole dispatcher over Modal: from job.submitted to its end through the ladder, preemption, cancel and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpclib import Status

from contracts.job import Job, State
from kit.tasks import end
from services.dispatcher import app
from services.dispatcher.app import Dispatcher
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from tests.harness.dispatch.dispatcher import DispatcherHarness, open_dispatcher_harness
from tests.harness.runtime.executor_environment import ExecutorServers, serve
from tests.modal_loopback import Loopback, dialled
from tests.workers.laddered.spec import WORKLOAD as LADDERED
from tests.workers.scripted.spec import WORKLOAD as SCRIPTED

pytestmark = pytest.mark.anyio

QUICK: dict[str, Any] = {"backoff_s": 0.05, "gpu_notice_s": 0.5, "gpu_climb_s": 60.0, "find_s": 20.0, "slots": 8}
#: Longer than a container of the stand-in takes to start on a busy machine: the rung above must not be given up too.
CLIMB_S = 5.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory) as servers:
        yield servers


@dataclass
class Rented:
    """A harness whose dispatchers launch on Modal."""

    harness: DispatcherHarness
    executor: ModalExecutor
    loopback: Loopback

    def dispatcher(self, **changes: Any) -> Dispatcher:
        limits = {"tenant_concurrency": 8, "workload_concurrency": 8}
        return self.harness.dispatcher(self.executor, SCRIPTED, LADDERED, **(limits | QUICK | changes))

    async def submit(self, *script: str, workload: str = "scripted", **more: Any) -> str:
        return await self.harness.submit(workload=workload, params={"script": list(script)}, **more)

    async def reach(self, job_id: str, *states: State) -> Job:
        return await self.harness.reach(job_id, *states, timeout_s=60.0)

    async def paid(self, job_id: str) -> list[dict[str, Any]]:
        """Return what each attempt has cost, in order."""
        events = await self.harness.events(job_id)
        return [data["cost"] for what, data in events if what in ("interrupted", "succeeded") and data["cost"]]

    async def said(self, job_id: str, verb: str) -> list[dict[str, Any]]:
        return [data for what, data in await self.harness.events(job_id) if what == verb]


@pytest.fixture
async def rented(servers: ExecutorServers, tmp_path: Path) -> AsyncIterator[Rented]:
    async with rent(servers) as rented:
        yield rented
        servers.loopback.heal()
        servers.loopback.capacity.clear()


@asynccontextmanager
async def rent(servers: ExecutorServers) -> AsyncIterator[Rented]:
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(open_dispatcher_harness(servers.nats, servers.s3))
        stack.enter_context(dialled(servers.loopback))
        settings = servers.modal_settings()
        executor = await stack.enter_async_context(open_modal_executor(settings, harness.bucket, servers.access()))
        yield Rented(harness, executor, servers.loopback)


async def test_a_job_runs_on_modal_and_costs_its_seconds_start_up_included(rented: Rented) -> None:
    async with rented.harness.dispatching(rented.dispatcher()):
        job_id = await rented.submit("stage first", "work 0.2", "save a.bin 256")
        job = await rented.reach(job_id)
    assert (job.state, job.executor, job.device) == (State.SUCCEEDED, "modal", "cpu")
    (starting,) = await rented.said(job_id, "starting")
    (cost,) = job.costs.values()
    assert cost.startup_s > 0
    assert cost.usd == pytest.approx(cost.seconds * starting["usd_per_s"], abs=1e-6)


async def test_the_accounts_prices_outlast_a_refresh_without_an_answer(
    rented: Rented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_PRICE_REFRESH_S", 0.02)
    asked = 0
    rates = rented.executor.rates

    async def counted() -> dict[str, float]:
        nonlocal asked
        found = await rates()
        asked += 1
        return found

    monkeypatch.setattr(rented.executor, "rates", counted)
    rented.loopback.rates["gpu_hour_cost_t4"] = "36.0"
    dispatcher = rented.dispatcher()
    async with rented.harness.dispatching(dispatcher), asyncio.timeout(30):
        while dispatcher.lifecycle.prices.usd_per_s("T4") != pytest.approx(0.01):
            await asyncio.sleep(0.02)
        rented.loopback.rates.clear()
        before = asked
        while asked < before + 3:
            await asyncio.sleep(0.02)
        assert dispatcher.lifecycle.prices.usd_per_s("T4") == pytest.approx(0.01)


async def test_a_gpu_that_is_not_to_be_had_is_told_and_the_next_is_taken(rented: Rented) -> None:
    rented.loopback.capacity["T4"] = 0
    async with rented.harness.dispatching(rented.dispatcher(gpu_climb_s=CLIMB_S)):
        job_id = await rented.submit("work 0.1", workload="laddered")
        job = await rented.reach(job_id)
    assert job.state is State.SUCCEEDED
    waiting = await rented.said(job_id, "waiting_for_gpu")
    assert waiting[0]["device"] == "T4"
    assert (waiting[0]["backlog"], waiting[0]["workers"], waiting[0]["next_device"]) == (1, 0, "A10")
    starting = await rented.said(job_id, "starting")
    # A machine that is busy enough starts a container later still: then the rung after that is climbed as well.
    assert [(one["device"], one["rung"]) for one in starting][:2] == [("T4", 0), ("A10", 1)]
    assert len({one["usd_per_s"] for one in starting}) == len(starting)
    assert {one["failure"] for one in await rented.said(job_id, "interrupted")} == {"no_gpu"}
    assert [cost["device"] for cost in await rented.paid(job_id)] == [job.device], "what never began has cost nothing"


async def test_a_gpu_that_is_too_small_is_climbed(rented: Rented) -> None:
    async with rented.harness.dispatching(rented.dispatcher()):
        job_id = await rented.submit("out_of_memory_unless A100-40GB", workload="laddered")
        job = await rented.reach(job_id)
    assert (job.state, job.device) == (State.SUCCEEDED, "A100-40GB")
    assert [one["device"] for one in await rented.said(job_id, "starting")] == ["T4", "A10", "A100-40GB"]
    paid = await rented.paid(job_id)
    assert [cost["device"] for cost in paid] == ["T4", "A10", "A100-40GB"], "each rung is paid for"


async def test_a_gpu_that_the_user_chose_is_the_only_one(rented: Rented) -> None:
    async with rented.harness.dispatching(rented.dispatcher()):
        job_id = await rented.submit("out_of_memory_unless A100-40GB", workload="laddered", gpu="T4")
        job = await rented.reach(job_id)
    assert (job.state, job.failure) == (State.FAILED, "out_of_memory")
    assert [one["device"] for one in await rented.said(job_id, "starting")] == ["T4"]


async def test_a_rung_that_the_cap_does_not_allow_is_not_taken(rented: Rented) -> None:
    async with rented.harness.dispatching(rented.dispatcher()):
        job_id = await rented.submit("out_of_memory_unless A10", workload="laddered", max_cost_usd=0.0003)
        job = await rented.reach(job_id)
    assert (job.state, job.failure) in [(State.FAILED, "out_of_memory"), (State.FAILED, "user")]
    assert [one["device"] for one in await rented.said(job_id, "starting")] == ["T4"]


async def test_a_job_that_waits_for_a_gpu_is_cancelled(rented: Rented) -> None:
    rented.loopback.capacity["T4"] = 0
    async with rented.harness.dispatching(rented.dispatcher()):
        job_id = await rented.submit("work 0.1", workload="laddered")
        await rented.reach(job_id, State.WAITING_FOR_GPU)
        await rented.harness.cancel(job_id)
        job = await rented.reach(job_id)
    assert job.state is State.CANCELLED
    assert job.costs == {}


async def test_a_preempted_job_goes_on_from_its_checkpoint(rented: Rented) -> None:
    async with rented.harness.dispatching(rented.dispatcher()):
        job_id = await rented.submit("checkpoint half", "keep half done", "work_unless half 60")
        job = await rented.reach(job_id, State.RUNNING)
        key = rented.harness.bucket.key("scratch", job_id, "checkpoints", "half")
        while not await rented.harness.bucket.list_keys(key):
            await asyncio.sleep(0.05)
        assert job.call_id
        await asyncio.to_thread(rented.loopback.preempt, job.call_id)
        job = await rented.reach(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    assert job.result
    assert job.result["notes"]["checkpoint half"] == "done"
    assert len(await rented.paid(job_id)) == 2


async def test_a_dispatcher_that_died_before_it_noted_its_call_learns_it_from_the_worker(rented: Rented) -> None:
    job_id = await rented.submit("work 1.0")
    first = rented.dispatcher()
    launch, launched = rented.executor.launch, asyncio.Event()

    async def launch_and_die(*arguments: Any) -> str:
        await launch(*arguments)
        launched.set()
        await asyncio.Future()
        return ""

    rented.executor.launch = launch_and_die  # type: ignore[method-assign]
    running = asyncio.create_task(first.run(asyncio.Event()))
    await launched.wait()
    await end(running)
    rented.executor.launch = launch  # type: ignore[method-assign]
    await rented.harness.forget_lease()
    async with rented.harness.dispatching(rented.dispatcher()):
        job = await rented.reach(job_id)
    verbs = await rented.harness.verbs(job_id)
    assert (job.state, job.attempt) == (State.SUCCEEDED, 1), verbs
    assert (verbs.count("starting"), verbs.count("started"), len(job.costs)) == (1, 1, 1)


async def test_a_launch_whose_outcome_nobody_learns_leaves_one_worker_that_counts(rented: Rented) -> None:
    rented.loopback.lose_reply("FunctionMap", times=1000)
    async with rented.harness.dispatching(rented.dispatcher(throttled_s=0.2)):
        job_id = await rented.submit("work 0.2", "save a.bin 256")
        while not {"started", "interrupted"} & {*await rented.harness.verbs(job_id)}:
            await asyncio.sleep(0.05)
        rented.loopback.heal()
        job = await rented.reach(job_id)
    verbs = await rented.harness.verbs(job_id)
    assert job.state is State.SUCCEEDED
    assert (verbs.count("started"), verbs.count("artifact_ready"), verbs.count("succeeded")) == (1, 1, 1)
    assert len(job.costs) == 1


async def test_throttling_delays_and_counts_for_nothing(rented: Rented) -> None:
    rented.loopback.fail("FunctionMap", Status.RESOURCE_EXHAUSTED, times=1)
    async with rented.harness.dispatching(rented.dispatcher(throttled_s=0.2)):
        job_id = await rented.submit("work 0.1")
        job = await rented.reach(job_id)
    assert job.state is State.SUCCEEDED
    assert [one["failure"] for one in await rented.said(job_id, "interrupted")] == ["throttled"]
    assert (job.attempt, job.first_attempt) == (2, 2), "not held against the job"
