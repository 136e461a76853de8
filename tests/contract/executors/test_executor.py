"""Contract of every executor, on real servers and processes. A new executor is one more parameter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.ids import new_id
from contracts.job import State
from services.dispatcher.executors.executor import CallState, CallStatus
from tests.harness.runtime.executor_environment import (
    EXECUTORS,
    ExecutorHarness,
    ExecutorServers,
    open_harness,
    processes_of_run,
    serve,
)
from tests.harness.runtime.job_driver import WAIT_S
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory) as servers:
        yield servers


@pytest.fixture(params=EXECUTORS)
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, servers: ExecutorServers
) -> AsyncIterator[ExecutorHarness]:
    async with open_harness(request.param, tmp_path / "data", servers) as harness:
        yield harness


async def test_a_job_runs_and_publishes_its_events_in_order(harness: ExecutorHarness) -> None:
    assignment, status = await harness.play(
        "stage first", "progress 0.5", "save a.bin 1024", "stage second", "save b/c.bin 2560", state=State.SUCCEEDED
    )
    assert status == CallStatus(CallState.ENDED, 0, status.detail, None)
    assert await harness.driver.types(assignment.job_id) == [
        "job.submitted",
        "job.starting",
        "job.started",
        "job.artifact_ready",
        "job.stage_completed",
        "job.artifact_ready",
        "job.stage_completed",
        "job.succeeded",
    ]
    job = await harness.driver.job(assignment.job_id)
    assert job.result is not None
    assert job.result["steps_done"] == 5
    cost = job.costs[assignment.run_id]
    assert cost.seconds > 0
    assert cost.usd == pytest.approx(cost.seconds * assignment.usd_per_s, abs=1e-5)


@pytest.mark.parametrize(
    ("script", "failure", "code"),
    [
        (["fail clip_static"], "user", "clip_static"),
        (["crash"], "broken", "worker_broken"),
        (["no_such_step"], "broken", "worker_broken"),
        (["hoard"], "out_of_memory", "out_of_memory"),
    ],
)
async def test_a_failure_is_published_once_with_its_class(
    harness: ExecutorHarness, script: list[str], failure: str, code: str
) -> None:
    assignment, status = await harness.play(*script, state=State.INTERRUPTED)
    job = await harness.driver.job(assignment.job_id)
    assert job.error is not None
    assert (job.failure, job.error.code) == (failure, code)
    assert "and more" not in job.error.message
    assert "Traceback" not in job.error.message
    assert job.costs[assignment.run_id].seconds > 0
    assert (await harness.driver.types(assignment.job_id)).count("job.interrupted") == 1
    assert status.failure is None, "the events contain the failure"


@pytest.mark.parametrize(("step", "exit_code"), [("exit 3", 3), ("kill", 137)])
async def test_a_worker_that_dies_silently_is_lost(harness: ExecutorHarness, step: str, exit_code: int) -> None:
    assignment, status = await harness.play("stage first", "children", step, state=State.RUNNING)
    assert (status.state, status.exit_code, status.failure) == (CallState.ENDED, exit_code, "lost")
    assert not processes_of_run(assignment), "its children have ended too"


async def test_a_process_tree_over_its_memory_limit_ends_as_out_of_memory(harness: ExecutorHarness) -> None:
    assignment, status = await harness.play("hoard_in_children", "sleep 60", state=State.RUNNING)
    assert status.failure == "out_of_memory"
    assert not processes_of_run(assignment)


async def test_cancel_stops_a_running_job_which_publishes_its_interruption(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    for _ in range(5):  # on a busy machine the worker may be killed before it publishes its interruption
        assignment = await harness.driver.submit("children", "stage first", "work 60")
        call_id = await executor.launch(assignment, WORKLOAD.compute)
        await harness.driver.until(assignment.job_id, State.RUNNING)
        await harness.driver.until_progress(assignment.job_id)
        await executor.cancel(call_id)
        assert not processes_of_run(assignment)
        status = await executor.poll(call_id)
        assert status.state is CallState.ENDED
        await executor.cancel(call_id)  # a second call does nothing
        if status.exit_code != 137:
            break
    job = await harness.driver.job(assignment.job_id)
    assert (job.state, job.failure) == (State.INTERRUPTED, "preempted")


@pytest.mark.parametrize("steps", [["sleep 60"], ["children", "ignore_signals", "sleep 60"]])
async def test_a_job_that_ignores_signals_is_killed_with_all_its_children(
    harness: ExecutorHarness, steps: list[str]
) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit(*steps[:-1], "keep reached here", steps[-1])
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await harness.driver.until(assignment.job_id, State.RUNNING)
    end = time.monotonic() + WAIT_S
    key = harness.driver.bucket.key("scratch", assignment.job_id, "checkpoints", "reached")
    while not await harness.driver.bucket.list_keys(key):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert processes_of_run(assignment)
    await executor.cancel(call_id)
    assert not processes_of_run(assignment)
    assert (await executor.poll(call_id)).state is CallState.ENDED


@pytest.mark.real_starts  # a worker that is a fork has claimed before the cancel comes
async def test_a_cancel_before_the_claim_leaves_no_process_and_no_event(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit("save a.bin 256")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await executor.cancel(call_id)
    assert not processes_of_run(assignment)
    assert (await executor.poll(call_id)).state is CallState.ENDED
    assert await harness.driver.types(assignment.job_id) == ["job.submitted", "job.starting"]


async def test_a_worker_of_a_cancelled_job_does_nothing(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit("save a.bin 256")
    await harness.driver.request_cancel(assignment.job_id)
    status = await harness.ended(executor, await executor.launch(assignment, WORKLOAD.compute))
    assert (status.exit_code, status.failure) == (0, None)
    assert await harness.driver.types(assignment.job_id) == ["job.submitted", "job.starting", "job.cancel_requested"]


async def test_a_running_worker_detects_the_cancel_request_by_itself(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit("work 60")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await harness.driver.until(assignment.job_id, State.RUNNING)
    await harness.driver.request_cancel(assignment.job_id)
    await harness.ended(executor, call_id)
    assert (await harness.driver.job(assignment.job_id)).state is State.INTERRUPTED


async def test_a_replaced_run_writes_nothing_more(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    first = await harness.driver.submit("sleep 0.6", "save late.bin 256")
    call_id = await executor.launch(first, WORKLOAD.compute)
    await harness.driver.until(first.job_id, State.RUNNING)
    second = await harness.driver.replace_attempt(first)
    status = await harness.ended(executor, call_id)
    assert (status.exit_code, status.failure) == (0, None)
    assert (await harness.driver.types(first.job_id))[-1] == "job.starting"
    assert (await harness.driver.job(first.job_id)).run_id == second.run_id
    assert not await harness.driver.bucket.list_keys(harness.driver.bucket.key("results", first.job_id))


async def test_an_attempt_that_is_launched_twice_runs_once(harness: ExecutorHarness) -> None:
    first_executor, other = harness.executor(), harness.executor()
    assignment = await harness.driver.submit("work 0.2", "save a.bin 256")
    calls = await asyncio.gather(
        first_executor.launch(assignment, WORKLOAD.compute),
        other.launch(assignment, WORKLOAD.compute),
        first_executor.launch(assignment, WORKLOAD.compute),
    )
    await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    for executor, call_id in zip((first_executor, other, first_executor), calls, strict=True):
        assert (await harness.ended(executor, call_id)).state is CallState.ENDED
    types = await harness.driver.types(assignment.job_id)
    assert types.count("job.started") == types.count("job.artifact_ready") == types.count("job.succeeded") == 1


async def test_a_new_dispatcher_finds_polls_and_cancels_the_old_ones_workers(harness: ExecutorHarness) -> None:
    old = harness.executor()
    short = await harness.driver.submit("work 1")
    long = await harness.driver.submit("children", "work 60")
    calls = [await old.launch(assignment, WORKLOAD.compute) for assignment in (short, long)]
    await old.close()
    new = harness.executor()
    if harness.kind == "local":
        assert [await new.find(assignment.run_id) for assignment in (short, long)] == calls
    else:  # Modal finds a call only by its id, which the worker publishes when it starts
        job = await harness.driver.until(long.job_id, State.RUNNING)
        assert job.call_id == calls[1]
    assert (await new.poll(calls[1])).state is CallState.RUNNING
    status = await harness.ended(new, calls[0])
    assert status.failure is None
    await harness.driver.until(short.job_id, State.SUCCEEDED)
    await harness.driver.until(long.job_id, State.RUNNING)
    await new.cancel(calls[1])
    assert not processes_of_run(long)
    assert await new.find(new_id("run")) is None


@pytest.mark.parametrize(
    "call_id", ["", "../../etc", "run_0198c0de-0000-7000-8000-000000000000", "fc-01K0000000000000000000"]
)
async def test_an_unknown_call_has_ended(harness: ExecutorHarness, call_id: str) -> None:
    executor = harness.executor()
    status = await executor.poll(call_id)
    assert (status.state, status.failure) == (CallState.ENDED, "lost"), status.detail
    await executor.cancel(call_id)
    assert await executor.find(call_id) is None


async def test_clearing_the_cache_removes_one_job_and_no_other(harness: ExecutorHarness, tmp_path: Path) -> None:
    executor = harness.executor()
    jobs = [(await harness.play("save a.bin 262144", state=State.SUCCEEDED))[0].job_id for _ in range(2)]
    for job_id in jobs:
        await harness.until_cached(job_id, 1)
    # These names stay inside this test's folder: if the guard fails, no other file is deleted.
    beside = tmp_path / "beside"
    beside.mkdir()
    for unknown in ("", ".", f"{jobs[0]}/../{jobs[1]}", "../../beside", str(beside), new_id("job")):
        await executor.clear_cache(unknown)
    assert {path.name for path in harness.cache.iterdir()} >= set(jobs)
    assert beside.exists()
    await executor.clear_cache(jobs[0])
    await executor.clear_cache(jobs[0])  # a second call does nothing
    assert not (harness.cache / jobs[0]).exists()
    assert (harness.cache / jobs[1]).exists()


async def test_children_that_a_job_leaves_running_are_killed(harness: ExecutorHarness) -> None:
    assignment, _ = await harness.play("children", state=State.SUCCEEDED)
    assert not processes_of_run(assignment)
