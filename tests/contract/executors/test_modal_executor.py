"""Modal executor: unavailable GPUs, preemption, throttling, lost answers, against the loopback of Modal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from grpclib import Status

from contracts.assignment import Assignment
from contracts.errors import SaccadeError
from contracts.ids import new_id
from contracts.job import State
from kit.bucket import open_bucket
from kit.http.server import serve as serve_app
from kit.tasks import end
from modal_workers.deployment import CACHE
from services.dispatcher.executors.executor import CallBacklog, CallState, LaunchFailed, Throttled
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from services.dispatcher.executors.run_access import RunAccess
from tests.harness.preloaded import popen
from tests.harness.runtime.executor_environment import (
    ExecutorHarness,
    ExecutorServers,
    open_harness,
    processes_of_run,
    serve,
)
from tests.harness.runtime.job_driver import WAIT_S
from tests.harness.servers.embedded import HOST, free_port, wait_for_port
from tests.harness.servers.gateway import running_gateway
from tests.modal_loopback import Loopback, dialled, running
from tests.workers.hasty.spec import WORKLOAD as HASTY
from tests.workers.laddered.spec import WORKLOAD as LADDERED
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory) as servers:
        yield servers


@pytest.fixture
async def harness(tmp_path: Path, servers: ExecutorServers) -> AsyncIterator[ExecutorHarness]:
    async with open_harness("modal", tmp_path / "data", servers) as harness:
        yield harness
        servers.loopback.heal()
        servers.loopback.capacity.clear()


@pytest.fixture
def loopback(servers: ExecutorServers) -> Loopback:
    return servers.loopback


@pytest.fixture
def executor(harness: ExecutorHarness) -> ModalExecutor:
    made = harness.executor()
    assert isinstance(made, ModalExecutor)
    return made


async def test_a_worker_gets_the_gpu_of_its_rung_and_publishes_it(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    assert executor.devices(LADDERED.compute, None) == ("T4", "A10", "A100-40GB")
    assert executor.devices(LADDERED.compute, "a100") == ("A100-40GB",)
    assert executor.devices(WORKLOAD.compute, None) == ("cpu",)
    with pytest.raises(SaccadeError, match="There is no GPU"):
        executor.devices(LADDERED.compute, "A7")
    assignment = await harness.driver.submit("work 0.1", workload="laddered", device="A10")
    call_id = await executor.launch(assignment, LADDERED.compute)
    job = await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    assert (job.device, job.call_id) == ("A10", call_id)
    assert loopback.containers[-1].gpu == "A10"


async def test_start_up_is_billed_and_published(harness: ExecutorHarness, executor: ModalExecutor) -> None:
    before = time.time()
    assignment = await harness.driver.submit("sleep 0.2")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    job = await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    cost = job.costs[assignment.run_id]
    assert job.billed_since is not None
    assert job.started_at is not None
    assert 0 < cost.startup_s < cost.seconds < time.time() - before + 2.0
    assert cost.startup_s == pytest.approx((job.started_at - job.billed_since).total_seconds(), abs=0.5)
    assert cost.usd == pytest.approx(cost.seconds * assignment.usd_per_s, abs=1e-5)
    await harness.ended(executor, call_id)


async def test_a_worker_stops_before_it_exceeds_the_remaining_amount(
    harness: ExecutorHarness, executor: ModalExecutor
) -> None:
    assignment = (await harness.driver.submit("children", "work 60")).model_copy(update={"left_usd": 0.015})
    call_id = await executor.launch(assignment, WORKLOAD.compute)  # 0.001 USD per second: 15 s, start-up included
    job = await harness.driver.until(assignment.job_id, State.INTERRUPTED)
    assert job.error is not None
    assert (job.failure, job.error.code) == ("user", "cost_cap_reached")
    assert job.costs[assignment.run_id].usd <= 0.015 + assignment.usd_per_s
    await harness.ended(executor, call_id)
    assert not processes_of_run(assignment)


async def test_modal_ends_a_worker_that_exceeds_its_timeout(harness: ExecutorHarness, executor: ModalExecutor) -> None:
    assignment = await harness.driver.submit("children", "ignore_signals", "sleep 60", workload="hasty")
    call_id = await executor.launch(assignment, HASTY.compute)
    status = await harness.ended(executor, call_id)
    assert (status.state, status.failure) == (CallState.ENDED, "timed_out")
    until = time.monotonic() + WAIT_S
    while processes_of_run(assignment):  # Modal reports the result before it ends the container
        assert time.monotonic() < until
        await asyncio.sleep(0.05)


async def test_a_preempted_worker_publishes_it_and_its_second_run_does_nothing(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    assignment = await harness.driver.submit("children", "keep reached here", "work 60")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await harness.driver.until(assignment.job_id, State.RUNNING)
    await until_kept(harness, assignment)
    await asyncio.to_thread(loopback.preempt, call_id)
    job = await harness.driver.until(assignment.job_id, State.INTERRUPTED)
    assert job.failure == "preempted"
    status = await harness.ended(executor, call_id)
    assert (status.exit_code, status.failure) == (0, None), "Modal ran the same input again; its run no longer counts"
    assert not processes_of_run(assignment)
    types = await harness.driver.types(assignment.job_id)
    assert (types.count("job.started"), types.count("job.interrupted")) == (1, 1)


@pytest.mark.parametrize("fate", ["failure", "internal_failure"])
async def test_a_killed_container_is_lost(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback, fate: str
) -> None:
    assignment = await harness.driver.submit("children", "work 60")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await harness.driver.until(assignment.job_id, State.RUNNING)
    await asyncio.to_thread(loopback.kill, call_id, fate)
    status = await harness.ended(executor, call_id)
    assert (status.state, status.failure) == (CallState.ENDED, "lost")
    assert not processes_of_run(assignment)


async def test_a_worker_in_a_container_is_a_fork_of_a_process_with_its_packages(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    if not popen.is_installed():
        pytest.skip("all programs are started")
    assignment = await harness.driver.submit("keep reached here", "work 60")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await until_kept(harness, assignment)
    (worker,) = processes_of_run(assignment)
    assert worker.cmdline()[1:3] == ["-m", "modal_workers.runtime.worker_process"]
    assert any("_upb" in mapped.path for mapped in worker.memory_maps()), "Modal imports protobuf, a worker does not"
    await asyncio.to_thread(loopback.kill, call_id)
    await harness.ended(executor, call_id)


async def test_a_large_assignment_is_stored_in_the_bucket(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    assignment = await harness.driver.submit(*["progress 0.5"] * 560)
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    job = await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["steps_done"] == 560
    await harness.ended(executor, call_id)
    assert not [sent for sent in loopback.requests if sent.rpc == "BlobCreate"], "Modal's blob store is not used"


async def test_a_throttled_launch_names_a_delay(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    assignment = await harness.driver.submit("sleep 0")
    loopback.fail("FunctionMap", Status.RESOURCE_EXHAUSTED, times=1)
    with pytest.raises(Throttled) as throttled:
        await executor.launch(assignment, WORKLOAD.compute)
    assert throttled.value.retry_after_s > 0
    loopback.fail("FunctionMap", Status.UNAVAILABLE, times=8)
    with pytest.raises(Throttled):
        await executor.launch(assignment, WORKLOAD.compute)
    loopback.heal()
    await harness.ended(executor, await executor.launch(assignment, WORKLOAD.compute))
    assert (await harness.driver.job(assignment.job_id)).state is State.SUCCEEDED


async def test_a_launch_whose_answer_is_lost_takes_effect_once(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    assignment = await harness.driver.submit("work 0.2")
    before = len(loopback.sent("FunctionMap"))
    loopback.lose_reply("FunctionMap", times=1)
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    assert len(loopback.sent("FunctionMap")) > before + 1, "the client repeated the request"
    await harness.ended(executor, call_id)
    types = await harness.driver.types(assignment.job_id)
    assert (types.count("job.started"), types.count("job.succeeded")) == (1, 1)


async def test_the_error_for_a_worker_that_is_not_deployed_says_what_to_do(
    harness: ExecutorHarness, executor: ModalExecutor
) -> None:
    assignment = (await harness.driver.submit("sleep 0")).model_copy(update={"workload": "nobody"})
    with pytest.raises(LaunchFailed, match="saccade modal deploy") as refused:
        await executor.launch(assignment, WORKLOAD.compute)
    assert not isinstance(refused.value, Throttled)


async def test_a_status_is_cached_unless_the_poll_is_urgent(
    harness: ExecutorHarness, servers: ExecutorServers, executor: ModalExecutor, loopback: Loopback
) -> None:
    slow = ModalExecutor(executor.client, servers.modal_settings(poll_s=60.0), harness.driver.bucket, executor.access)
    assignment = await harness.driver.submit("work 0.5")
    call_id = await slow.launch(assignment, WORKLOAD.compute)
    assert (await slow.poll(call_id)).state is CallState.RUNNING
    asked = len(loopback.sent("FunctionGetOutputs"))
    await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    assert (await slow.poll(call_id)).state is CallState.RUNNING
    assert len(loopback.sent("FunctionGetOutputs")) == asked
    until = time.monotonic() + WAIT_S
    while (status := await slow.poll(call_id, urgent=True)).state is CallState.RUNNING:
        assert time.monotonic() < until
    assert status.exit_code == 0


async def test_a_failed_removal_of_the_cache_is_an_error_and_a_missing_cache_is_not(
    executor: ModalExecutor, loopback: Loopback
) -> None:
    job_id = new_id("job")
    kept = loopback.volume(CACHE.name) / job_id / "0a"
    kept.parent.mkdir()
    kept.touch()
    for status in (Status.UNAVAILABLE, Status.PERMISSION_DENIED, Status.RESOURCE_EXHAUSTED):
        loopback.fail("VolumeRemoveFile", status, times=20)
        with pytest.raises(SaccadeError, match="Modal does not answer"):
            await executor.clear_cache(job_id)
        loopback.heal()
    loopback.lose_reply("VolumeRemoveFile")  # the second try finds nothing
    await executor.clear_cache(job_id)
    assert not kept.parent.exists()


async def test_without_a_deployed_pipeline_there_is_no_cache_to_remove(
    tmp_path: Path, harness: ExecutorHarness, servers: ExecutorServers
) -> None:
    with running(tmp_path) as empty, dialled(empty):
        async with open_modal_executor(servers.modal_settings(), harness.driver.bucket, servers.access()) as executor:
            await executor.clear_cache(new_id("job"))
        assert [sent.rpc for sent in empty.requests if "Volume" in sent.rpc] == ["VolumeGetOrCreate"], "none is created"
        with pytest.raises(KeyError):
            empty.volume(CACHE.name)
        assert empty.unimplemented == set()


async def test_a_missing_answer_says_nothing_about_a_call(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    assignment = await harness.driver.submit("work 60")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    loopback.fail("FunctionGetOutputs", Status.UNAVAILABLE, times=20)
    with pytest.raises(SaccadeError, match="Modal does not answer"):
        await executor.poll(call_id, urgent=True)
    loopback.heal()
    assert (await executor.poll(call_id, urgent=True)).state is CallState.RUNNING
    await executor.cancel(call_id)
    loopback.forget(call_id)
    fresh = harness.executor()
    assert (await fresh.poll(call_id)).failure == "lost"


async def test_an_assignment_that_the_bucket_does_not_store_is_launched_later(
    harness: ExecutorHarness, executor: ModalExecutor, servers: ExecutorServers
) -> None:
    assignment = await harness.driver.submit("work 0")
    large = assignment.model_copy(update={"params": {"script": ["x" * 100_000]}})
    async with open_bucket(servers.s3.settings) as closed:
        pass
    without = ModalExecutor(executor.client, executor.settings, closed, executor.access)
    with pytest.raises(Throttled, match="bucket"):
        await without.launch(large, WORKLOAD.compute)


async def test_prices_are_those_of_the_account_if_the_token_has_permission(
    executor: ModalExecutor, loopback: Loopback
) -> None:
    assert await executor.rates() == {}
    loopback.rates.update({"gpu_hour_cost_t4": "0.59000", "cpu_hour_cost": "0.04730", "gpu_hour_cost_new": "1"})
    assert await executor.rates() == {"T4": pytest.approx(0.59 / 3600), "cpu": pytest.approx(0.0473 / 3600)}
    loopback.rates.clear()


async def test_a_call_that_waits_for_a_gpu_counts_as_backlog_and_can_be_cancelled(
    harness: ExecutorHarness, executor: ModalExecutor, loopback: Loopback
) -> None:
    loopback.capacity["T4"] = 0
    waiting = [await harness.driver.submit("sleep 0", workload="laddered", device="T4") for _ in range(3)]
    calls = [await executor.launch(assignment, LADDERED.compute) for assignment in waiting]
    assert await executor.backlog("laddered", "T4") == CallBacklog(inputs=3, workers=0)
    for call_id in calls:
        assert (await executor.poll(call_id)).state is CallState.RUNNING
        await executor.cancel(call_id)
        assert (await executor.poll(call_id)).state is CallState.ENDED
    assert await executor.backlog("laddered", "T4") == CallBacklog(inputs=0, workers=0)
    assert await executor.backlog("nobody", "cpu") is None


async def test_without_access_to_nats_events_go_through_the_gateway(
    harness: ExecutorHarness, servers: ExecutorServers, tmp_path: Path
) -> None:
    port, stop = free_port(), asyncio.Event()
    worker_key = (servers.nats.keys / "workers.key").read_text()
    async with running_gateway(servers.nats.settings, servers.s3.settings, tmp_path, worker_key=worker_key) as running:
        serving = asyncio.ensure_future(serve_app(running.app, HOST, port, authenticated=False, stop=stop))
        await asyncio.to_thread(wait_for_port, port)
        access = RunAccess(servers.nats.tokens, "ingest", f"http://{HOST}:{port}")
        with dialled(servers.loopback):
            async with open_modal_executor(servers.modal_settings(), harness.driver.bucket, access) as executor:
                assignment = await harness.driver.submit(
                    "stage first", "progress 0.5", "save a.bin 256", "stage second"
                )
                call_id = await executor.launch(assignment, WORKLOAD.compute)
                await harness.ended(executor, call_id)
        stop.set()
        await end(serving)
    assert (await harness.driver.types(assignment.job_id))[2:] == [
        "job.started",
        "job.artifact_ready",
        "job.stage_completed",
        "job.stage_completed",
        "job.succeeded",
    ]
    assert await harness.driver.newest_progress(assignment.job_id) is not None


async def until_kept(harness: ExecutorHarness, assignment: Assignment) -> None:
    """Wait until the run has stored its checkpoint."""
    until = time.monotonic() + WAIT_S
    key = harness.driver.bucket.key("scratch", assignment.job_id, "checkpoints", "reached")
    while not await harness.driver.bucket.list_keys(key):
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
