"""What becomes of a pipeline when its stages fail, somebody cancels or retries it, or its money or time runs out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from contracts.errors import ErrorCode
from contracts.events.job import FailureClass, JobSubmitted, PartOf
from contracts.ids import stage_job_id
from contracts.job import State
from contracts.workload import Workload
from tests.harness.dispatch.dispatcher import Servers, kill, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.pipelines import (
    STAGES,
    half_done_until_stopped,
    jobs_of,
    leaves_a_file,
    paid,
    parts_of,
    reach_part,
    relay,
    show_a_file,
    stage_executor,
    whole,
)
from tests.harness.dispatch.scripted_executor import Killed, Script, Worker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("pipelines")) as both:
        yield both


def fails(failure: FailureClass, code: ErrorCode) -> Script:
    async def script(worker: Worker) -> None:
        if await worker.claim():
            await show_a_file(worker)
            await worker.interrupted(failure, code, "Its own words.")

    return script


async def dies(worker: Worker) -> None:
    await worker.claim()
    raise Killed


FAILURES: dict[str, tuple[Script, FailureClass, ErrorCode, int]] = {
    "user": (fails("user", ErrorCode.CLIP_STATIC), "user", ErrorCode.CLIP_STATIC, 1),
    "broken": (fails("broken", ErrorCode.WORKER_BROKEN), "broken", ErrorCode.WORKER_BROKEN, 1),
    "timed out": (fails("timed_out", ErrorCode.TIMED_OUT), "timed_out", ErrorCode.TIMED_OUT, 1),
    "out of memory": (fails("out_of_memory", ErrorCode.OUT_OF_MEMORY), "out_of_memory", ErrorCode.OUT_OF_MEMORY, 2),
    "lost": (dies, "lost", ErrorCode.WORKER_LOST, 2),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_shard_that_fails_for_good_fails_the_whole_with_its_words(servers: Servers, name: str) -> None:
    script, failure, code, attempts = FAILURES[name]
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 1): [script], ("shape", 2): [half_done_until_stopped]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay")
            job = await harness.reach(job_id)
        assert (job.state, job.failure) == (State.FAILED, failure)
        assert job.error
        assert job.error.code == code
        assert not executor.at_work()
        parts = await jobs_of(harness, job_id)
        states = {job.submitted.part_of.shard: job.state for job in parts.values() if job.id in shapes(job_id)}
        assert states == {0: State.SUCCEEDED, 1: State.FAILED, 2: State.CANCELLED}
        assert parts[stage_job_id(job_id, "shape", 1)].attempt == attempts
        assert stage_job_id(job_id, "bind", 0) not in parts, "what comes after is not begun"
        assert (await whole(harness, job_id)).actual_usd == paid(parts) > 0
        if name == "user":
            left = [data["artifact"]["name"] for verb, data in await harness.events(job_id) if verb == "artifact_ready"]
            assert "shape_1.txt" in left, "what says why is the pipeline's file too"


def shapes(job_id: str) -> list[str]:
    return [one for one in parts_of(job_id) if "-shape-" in one]


async def test_an_attempt_that_is_lost_is_made_good_by_its_stage_alone(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 0): [dies, leaves_a_file], ("bind", 0): [dies, leaves_a_file]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay")
            job = await harness.reach(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
        assert len(executor.launched) == len(parts_of(job_id)) + 2
        assert (await whole(harness, job_id)).actual_usd == paid(await jobs_of(harness, job_id))


@pytest.mark.parametrize("stage", STAGES)
async def test_it_can_be_cancelled_in_each_stage(servers: Servers, stage: str) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {(stage, 0): [half_done_until_stopped]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay")
            await reach_part(harness, job_id, stage, 0, State.RUNNING)
            await harness.cancel(job_id)
            job = await harness.reach(job_id)
        assert job.state is State.CANCELLED
        parts = await jobs_of(harness, job_id)
        assert parts[stage_job_id(job_id, stage, 0)].state is State.CANCELLED
        assert all(one.state.ended for one in parts.values())
        assert not executor.at_work()
        assert (await whole(harness, job_id)).actual_usd == paid(parts) > 0


@pytest.mark.parametrize(
    ("known_later", "code"),
    [
        (relay()[1:], ErrorCode.UNKNOWN_WORKLOAD),
        ([replace(relay()[0], stages=()), *relay()[1:]], ErrorCode.INVALID_PARAMETER),
    ],
    ids=["unknown", "without stages"],
)
async def test_a_dispatcher_that_cannot_go_on_with_it_ends_what_runs_for_it(
    servers: Servers, known_later: list[Workload], code: ErrorCode
) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 1): [half_done_until_stopped]})
        first = asyncio.create_task(harness.dispatcher(executor, *relay()).run(asyncio.Event()))
        job_id = await harness.submit(workload="relay")
        await reach_part(harness, job_id, "shape", 1, State.RUNNING)
        await kill(first)
        async with harness.dispatching(harness.dispatcher(executor, *known_later)):
            job = await harness.reach(job_id)
        assert (job.state, job.failure) == (State.FAILED, "broken")
        assert job.error
        assert job.error.code is code
        parts = await jobs_of(harness, job_id)
        assert parts[stage_job_id(job_id, "shape", 1)].state is State.CANCELLED
        assert not executor.at_work()
        assert (await whole(harness, job_id)).actual_usd == paid(parts) > 0


async def test_cancelled_before_anything_ran_it_costs_nothing(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness)
        job_id = await harness.submit(workload="relay")
        await harness.cancel(job_id)
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            assert (await harness.reach(job_id)).state is State.CANCELLED
        assert not executor.launched
        assert not await jobs_of(harness, job_id)


async def test_a_retry_does_again_only_what_is_not_done(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        bad = fails("user", ErrorCode.CLIP_STATIC)
        executor = stage_executor(harness, {("shape", 1): [bad, leaves_a_file]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay")
            assert (await harness.reach(job_id)).state is State.FAILED
            first = len(executor.launched)
            already = [one.id for one in (await jobs_of(harness, job_id)).values() if one.state is State.SUCCEEDED]
            # Forgotten by the dispatcher meanwhile: the pipeline and all its jobs are read from the stream.
            await harness.retry(job_id)
            job = await harness.reach(job_id, State.SUCCEEDED)
        assert job.attempt == 2
        again = [one.job_id for one in executor.launched[first:]]
        assert again.count(stage_job_id(job_id, "shape", 1)) == 1
        assert not set(again) & set(already)
        parts = await jobs_of(harness, job_id)
        folded = await whole(harness, job_id)
        assert folded.actual_usd == paid(parts)
        assert len(folded.costs) == 2, "each attempt of the pipeline counts what was paid in it"
        verbs = await harness.verbs(job_id)
        assert verbs.count("stage_completed") == len(STAGES)
        files = [data["artifact"]["name"] for verb, data in await harness.events(job_id) if verb == "artifact_ready"]
        assert sorted(files) == sorted(set(files)), "no file is told of twice"


async def test_a_retry_after_a_cancellation_goes_on_where_it_was(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 2): [half_done_until_stopped, leaves_a_file]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay")
            await reach_part(harness, job_id, "shape", 2, State.RUNNING)
            await harness.cancel(job_id)
            await harness.reach(job_id, State.CANCELLED)
        # Another dispatcher, which has seen nothing of it.
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            await harness.retry(job_id)
            job = await harness.reach(job_id, State.SUCCEEDED)
        launched = [one.job_id for one in executor.launched]
        assert launched.count(stage_job_id(job_id, "gather", 0)) == 1
        assert (await whole(harness, job_id)).actual_usd == paid(await jobs_of(harness, job_id)), job.costs


async def test_together_the_stages_cost_no_more_than_the_whole_may(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        async with harness.dispatching(harness.dispatcher(stage_executor(harness), *relay())):
            job_id = await harness.submit(workload="relay", max_cost_usd=0.01)
            assert (await harness.reach(job_id)).state is State.SUCCEEDED
        parts = await jobs_of(harness, job_id)
        gather = parts[stage_job_id(job_id, "gather", 0)]
        assert gather.submitted.max_cost_usd == 0.01
        shapes_usd = [parts[one].submitted.max_cost_usd or 0.0 for one in shapes(job_id)]
        assert max(shapes_usd) - min(shapes_usd) == 0
        assert 0 < sum(shapes_usd) <= 0.01 - gather.actual_usd


async def test_a_cap_that_is_reached_in_a_stage_is_told_as_the_whole_s(servers: Servers) -> None:
    async def costs_too_much(worker: Worker) -> None:
        if await worker.claim():
            await worker.interrupted("user", ErrorCode.COST_CAP_REACHED)

    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 0): [costs_too_much]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay", max_cost_usd=0.5)
            job = await harness.reach(job_id)
        assert job.error
        assert (job.failure, job.error.code) == ("user", ErrorCode.COST_CAP_REACHED)
        assert "0.5 USD" in job.error.message


async def test_its_deadline_holds_for_all_of_its_stages(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 0): [half_done_until_stopped]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay", deadline_s=1.0)
            job = await harness.reach(job_id)
        assert (job.state, job.failure) == (State.FAILED, "timed_out")
        assert not executor.at_work()


async def test_only_what_the_parameters_need_is_done(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        async with harness.dispatching(harness.dispatcher(stage_executor(harness), *relay())):
            job_id = await harness.submit(workload="relay", params={"only_gather": True})
            assert (await harness.reach(job_id)).state is State.SUCCEEDED
        assert list(await jobs_of(harness, job_id)) == [stage_job_id(job_id, "gather", 0)]


async def test_two_dispatchers_do_it_once(servers: Servers) -> None:
    """The one that leads is killed in the middle, and the other goes on."""
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 1): [half_done_until_stopped, leaves_a_file]})
        first, second = (harness.dispatcher(executor, *relay()) for _ in range(2))
        running = asyncio.create_task(first.run(asyncio.Event()))
        job_id = await harness.submit(workload="relay")
        await reach_part(harness, job_id, "shape", 1, State.RUNNING)
        async with harness.dispatching(second):
            await kill(running)
            await harness.forget_lease()
            slow = stage_job_id(job_id, "shape", 1)
            await executor.kill(next(f"call-{one.run_id}" for one in executor.launched if one.job_id == slow))
            job = await harness.reach(job_id)
        assert job.state is State.SUCCEEDED
        parts = await jobs_of(harness, job_id)
        assert len(executor.launched) == len(parts) + 1
        verbs = await harness.verbs(job_id)
        assert (verbs.count("starting"), verbs.count("stage_completed")) == (1, len(STAGES))
        assert (await whole(harness, job_id)).actual_usd == paid(parts)


async def test_a_stage_s_job_without_a_pipeline_that_goes_on_is_not_launched(servers: Servers) -> None:
    """Its submission was on its way when the dispatcher that sent it lost its lease; the next one ended the whole."""
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness)
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await harness.submit(workload="relay", params={"only_gather": True})
            over = await harness.reach(job_id)
            launched = len(executor.launched)
            late = stage_job_id(job_id, "bind", 0)
            data = JobSubmitted(
                workload="relay_bind", workload_version="1", inputs={}, params={}, deadline=over.submitted.deadline,
                part_of=PartOf(job_id=job_id, stage="bind", shard=0, shards=1),
            )  # fmt: skip
            await harness.publish(late, "acme", data, after=0)
            assert (await harness.reach(late)).state is State.CANCELLED
        assert len(executor.launched) == launched


async def test_a_workload_that_is_no_more_ends_it(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness)
        without_shape = [one for one in relay() if one.name != "relay_shape"]
        async with harness.dispatching(harness.dispatcher(executor, *without_shape)):
            job_id = await harness.submit(workload="relay")
            job = await harness.reach(job_id)
        assert job.error
        assert (job.failure, job.error.code) == ("broken", ErrorCode.UNKNOWN_WORKLOAD)


async def test_it_takes_no_slot_from_its_stages(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        one_slot = harness.dispatcher(
            stage_executor(harness), *relay(), slots=1, tenant_concurrency=1, workload_concurrency=1
        )  # fmt: skip
        async with harness.dispatching(one_slot):
            ids = [await harness.submit(workload="relay") for _ in range(3)]
            for job_id in ids:
                assert (await harness.reach(job_id)).state is State.SUCCEEDED


async def test_what_its_parameters_ask_for_and_cannot_be_ends_it(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        async with harness.dispatching(harness.dispatcher(stage_executor(harness), *relay())):
            job_id = await harness.submit(workload="relay", params={"shards": 0})
            job = await harness.reach(job_id)
        assert job.error
        assert (job.failure, job.error.code) == ("broken", ErrorCode.INVALID_PARAMETER)
