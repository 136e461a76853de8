"""What becomes of a job when all goes well, and when its attempts fail in each way."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from contracts.errors import ErrorCode
from contracts.events.job import FailureClass
from contracts.job import State
from tests.harness.dispatch.dispatcher import Servers, kill, open_dispatcher_harness, shared_servers, workload
from tests.harness.dispatch.scripted_executor import Killed, Script, ScriptedExecutor, Worker, works

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("lifecycle")) as both:
        yield both


def fails(failure: FailureClass, code: ErrorCode, message: str = "As the worker says it.") -> Script:
    async def script(worker: Worker) -> None:
        if await worker.claim():
            await worker.interrupted(failure, code, message)

    return script


async def dies(worker: Worker) -> None:
    await worker.claim()
    raise Killed


async def breaks(worker: Worker) -> None:
    await worker.claim()
    raise RuntimeError("a fault of its own")


async def sleeps(worker: Worker) -> None:
    await asyncio.sleep(60)


async def works_for_ever(worker: Worker) -> None:
    if await worker.claim():
        await worker.work_until_stopped()


async def works_deaf_to_all(worker: Worker) -> None:
    await worker.claim()
    await asyncio.sleep(60)


def without_launched(verbs: list[str]) -> list[str]:
    """Leave out what may come before or after job.started."""
    return [verb for verb in verbs if verb != "launched"]


async def test_a_job_is_queued_started_and_done(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert job.state is State.SUCCEEDED
        assert job.result == {"answer": 42}
        verbs = await harness.verbs(job_id)
        assert without_launched(verbs) == ["submitted", "queued", "starting", "started", "succeeded"]
        assert len(executor.launched) == 1
        assert world_is_quiet(executor)


def world_is_quiet(executor: ScriptedExecutor) -> bool:
    return not executor.at_work()


@pytest.mark.parametrize("failure", ["lost", "preempted", "out_of_memory"])
async def test_a_failure_that_may_pass_is_tried_again(servers: Servers, failure: FailureClass) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, fails(failure, ErrorCode.WORKER_LOST), works)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
        events = await harness.events(job_id)
        retrying = [data for verb, data in events if verb == "retrying"]
        assert [(one["attempt"], one["after"]) for one in retrying] == [(2, failure)]
        runs = {data["run_id"] for verb, data in events if verb == "starting"}
        assert len(runs) == 2, "each attempt is a run of its own"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("user", ErrorCode.CLIPS_DIFFERENT_PLACES),
        ("broken", ErrorCode.WORKER_BROKEN),
        ("timed_out", ErrorCode.TIMED_OUT),
    ],
)
async def test_a_failure_that_cannot_pass_is_final(servers: Servers, failure: FailureClass, code: ErrorCode) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, fails(failure, code))
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.failure, job.attempt) == (State.FAILED, failure, 1)
        assert job.error
        assert (job.error.code, job.error.message) == (code, "As the worker says it.")
        assert len(executor.launched) == 1


async def test_attempts_are_used_up_and_a_user_may_ask_for_more(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies, dies, dies, dies, works)
        async with harness.dispatching(harness.dispatcher(executor, workload(max_attempts=3))):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
            assert (job.state, job.failure, job.attempt) == (State.FAILED, "lost", 3)
            assert job.error
            assert job.error.code is ErrorCode.WORKER_LOST
            # Asked for again it has as many attempts as a new job, one of which dies too.
            await harness.retry(job_id)
            job = await harness.reach(job_id, State.SUCCEEDED)
        assert job.attempt == 5
        assert len(executor.launched) == 5


async def test_a_job_asked_for_again_lives_on_under_a_new_dispatcher(servers: Servers) -> None:
    """The new dispatcher meets job.retrying of a job that had ended, which it keeps nothing of."""
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, fails("user", ErrorCode.CLIP_STATIC), works)
        async with harness.dispatching(harness.dispatcher(executor)) as first:
            job_id = await harness.submit()
            await harness.reach(job_id, State.FAILED)
            assert await first.tail.wait_for((await harness.job(job_id)).sequence, 5)
            assert len(first.jobs) == 0, "what has ended is not kept"
        await harness.retry(job_id)
        async with harness.dispatching(harness.dispatcher(executor)):
            assert (await harness.reach(job_id, State.SUCCEEDED)).attempt == 2


async def test_what_earlier_attempts_cost_counts_towards_the_cap_of_a_new_dispatcher(servers: Servers) -> None:
    async def takes_half_a_second(worker: Worker) -> None:
        await worker.claim()
        await asyncio.sleep(0.5)
        await worker.interrupted("lost", ErrorCode.WORKER_LOST)

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, takes_half_a_second)
        b200 = workload(gpus=("B200",), max_attempts=2)
        # A second for the first two attempts, two for stopping the third, one for its work.
        job_id = await harness.submit(max_cost_usd=0.001736 * 4.2)
        async with harness.dispatching(harness.dispatcher(executor, b200)):
            await harness.reach(job_id, State.FAILED)
        await harness.retry(job_id)
        executor.scripts = [works_for_ever]
        async with harness.dispatching(harness.dispatcher(executor, b200)) as second:
            await harness.reach(job_id, State.RUNNING)
            job = second.jobs.get(job_id)
            assert job
            assert len(job.costs) == 2, "both attempts under the first dispatcher"
            job = await harness.reach(job_id)
            assert job.error
            assert job.error.code is ErrorCode.COST_CAP_REACHED


async def test_a_launch_that_fails_is_tried_again(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        executor.refused = {1}
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
        interrupted = [data for verb, data in await harness.events(job_id) if verb == "interrupted"]
        assert [one["failure"] for one in interrupted] == ["not_started"]
        assert "free some space" in interrupted[0]["error"]["message"]


async def test_a_worker_that_breaks_is_not_tried_again(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, breaks)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.failure, job.attempt) == (State.FAILED, "broken", 1)


async def test_a_worker_that_does_not_begin_in_time_is_replaced(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, sleeps, works)
        async with harness.dispatching(harness.dispatcher(executor, workload(start_timeout_s=0.3))):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
        assert len(executor.cancelled) == 1, "the one that did not begin is gone"
        interrupted = [data["failure"] for verb, data in await harness.events(job_id) if verb == "interrupted"]
        assert interrupted == ["not_started"]


async def test_a_job_that_runs_too_long_is_ended(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        async with harness.dispatching(harness.dispatcher(executor, workload(timeout_s=0.3))):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.failure, job.attempt) == (State.FAILED, "timed_out", 1)
        assert job.error
        assert job.error.code is ErrorCode.TIMED_OUT
        assert world_is_quiet(executor)


@pytest.mark.parametrize("script", [works_for_ever, sleeps])
async def test_a_job_past_its_deadline_is_ended(servers: Servers, script: Script) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, script)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit(deadline_s=0.5)
            job = await harness.reach(job_id)
        assert job.state is State.FAILED
        assert job.error
        assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
        assert world_is_quiet(executor)


async def test_a_job_that_waits_past_its_deadline_never_runs(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        async with harness.dispatching(harness.dispatcher(executor, slots=1)):
            first = await harness.submit()
            await harness.reach(first, State.RUNNING)
            second = await harness.submit(deadline_s=0.4)
            job = await harness.reach(second)
            assert job.error
            assert job.error.code is ErrorCode.DEADLINE_EXCEEDED
            assert [one.job_id for one in executor.launched] == [first]
        await executor.end()


async def test_a_silent_worker_is_taken_for_dead_and_its_late_success_does_not_count(servers: Servers) -> None:
    late: list[bool] = []

    async def goes_silent(worker: Worker) -> None:
        await worker.claim()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            late.append(await worker.succeed())
            raise

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, goes_silent, works)
        async with harness.dispatching(harness.dispatcher(executor, silent_s=0.5)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert late == [False]
        # The manifest that it left on its way out is the work done: nothing is computed twice.
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)
        assert "interrupted" in await harness.verbs(job_id)


async def test_beats_keep_a_quiet_job_alive(servers: Servers) -> None:
    async def beats(worker: Worker) -> None:
        await worker.claim()
        for _ in range(15):
            await worker.beat()
            await asyncio.sleep(0.1)
        await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, beats)
        async with harness.dispatching(harness.dispatcher(executor, silent_s=0.6)):
            job = await harness.reach(await harness.submit())
        assert (job.state, job.attempt) == (State.SUCCEEDED, 1)


async def test_a_lost_worker_that_left_its_manifest_has_done_the_job(servers: Servers) -> None:
    async def dies_before_its_last_word(worker: Worker) -> None:
        await worker.claim()
        await worker.leave_manifest()
        raise Killed

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies_before_its_last_word)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            job = await harness.reach(job_id)
        assert (job.state, job.attempt, job.result) == (State.SUCCEEDED, 1, {"answer": 42})
        assert without_launched(await harness.verbs(job_id)) == [
            "submitted", "queued", "starting", "started", "succeeded",
        ]  # fmt: skip


async def test_another_runs_manifest_is_not_taken_for_this_ones(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies, works)
        job_id = await harness.submit()
        key = harness.bucket.key("results", job_id, "manifest.json")
        await harness.bucket.put(key, b'{"job_id": "of somebody else", "run_id": "and cut')
        async with harness.dispatching(harness.dispatcher(executor)):
            job = await harness.reach(job_id)
        assert (job.state, job.attempt) == (State.SUCCEEDED, 2)


async def test_the_cost_cap_ends_a_job_before_it_is_exceeded(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_for_ever)
        b200 = workload(gpus=("B200",))
        async with harness.dispatching(harness.dispatcher(executor, b200)):
            # What a stop takes is part of it: the cap is that and half a second more.
            cap_usd = 0.001736 * 2.55
            job_id = await harness.submit(max_cost_usd=cap_usd)
            job = await harness.reach(job_id)
        assert job.state is State.FAILED
        assert job.error
        assert job.error.code is ErrorCode.COST_CAP_REACHED
        assert 0 < job.actual_usd <= cap_usd


async def test_a_workload_that_nobody_knows_ends_its_job_clearly(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        async with harness.dispatching(harness.dispatcher(executor)):
            job = await harness.reach(await harness.submit(workload="of_yesterday"))
        assert job.error
        assert job.error.code is ErrorCode.UNKNOWN_WORKLOAD


async def test_an_attempt_of_a_workload_that_a_new_dispatcher_does_not_know_is_billed(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, works_deaf_to_all)
        first = asyncio.create_task(harness.dispatcher(executor, workload(gpus=("B200",))).run(asyncio.Event()))
        job_id = await harness.submit()
        await harness.reach(job_id, State.RUNNING)
        await kill(first)
        async with harness.dispatching(harness.dispatcher(executor, workload("another"))):
            job = await harness.reach(job_id)
        assert job.state is State.FAILED
        assert job.error
        assert job.error.code is ErrorCode.UNKNOWN_WORKLOAD
        assert job.actual_usd > 0


async def test_two_workers_of_one_run_are_one(servers: Servers) -> None:
    """A launch may be repeated; both workers claim the run under the same event id, and one of them works."""
    claims: list[bool] = []
    meeting = asyncio.Barrier(2)

    async def twin(worker: Worker) -> None:
        await meeting.wait()
        claims.append(await worker.claim())

    async def twins(worker: Worker) -> None:
        other = Worker(worker.assignment, worker.store, worker.bucket)
        await asyncio.gather(twin(worker), twin(other))
        await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, twins)
        async with harness.dispatching(harness.dispatcher(executor)):
            job_id = await harness.submit()
            await harness.reach(job_id)
        assert sorted(claims) == [False, True]
        assert (await harness.verbs(job_id)).count("started") == 1


async def test_inside_a_tenant_priority_goes_before_age(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket)
        old, new, urgent = [await harness.submit(priority=priority) for priority in (0, 0, 5)]
        async with harness.dispatching(harness.dispatcher(executor, slots=1)):
            for job_id in (old, new, urgent):
                await harness.reach(job_id)
        order = [one.job_id for one in executor.launched]
        assert order.index(old) < order.index(new)
        assert order.index(urgent) < order.index(new)


async def test_a_job_that_waits_for_its_next_attempt_holds_no_slot(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = ScriptedExecutor(harness.store, harness.bucket, dies, works)
        slow_again = {"backoff_s": 1.0, "backoff_max_s": 1.0}
        async with harness.dispatching(harness.dispatcher(executor, slots=1, **slow_again)):
            first = await harness.submit()
            await harness.reach(first, State.RETRYING)
            executor.scripts = [works]
            second = await harness.submit()
            done = await harness.reach(second)
            last = await harness.reach(first)
        assert (done.state, last.state) == (State.SUCCEEDED, State.SUCCEEDED)
        assert done.finished_at
        assert last.finished_at
        assert done.finished_at < last.finished_at
