"""Reconciler: slots after a takeover, and workers that still run after the end of their job."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from contracts.events.job import JobSubmitted
from contracts.job import Job, State
from kit.tasks import end
from services.dispatcher.executors.executor import CallState, CallStatus
from services.dispatcher.jobs.requeue_after import RequeueAfter
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.scheduling.fair_queue import Limits
from services.dispatcher.scheduling.reconciler import Reconciler
from services.whatif.virtual_time import BEGIN, now, run


class StaticLifecycle:
    """Lifecycle that changes no job and records which ones were granted a slot."""

    def __init__(self, stored: UnfinishedJobs) -> None:
        self.listening_since_s = 0.0
        self.granted: list[str] = []
        self.jobs = stored
        #: Jobs that are not in memory.
        self.stored: dict[str, Job] = {}

    def now(self) -> datetime:
        return now()

    def forget(self, _: str) -> None:
        return None

    async def load(self, job_id: str, _: str) -> None:
        await asyncio.sleep(0.01)
        self.jobs.put(self.stored[job_id])

    async def advance(self, job_id: str, _: str, *, granted: bool) -> RequeueAfter:
        if granted:
            self.granted.append(job_id)
            await asyncio.sleep(60.0)  # it takes the slot
        return RequeueAfter(60.0)


class CachingExecutor:
    """Executor whose answers are outdated unless the poll is urgent; its workers have ended."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    async def poll(self, _: str, *, urgent: bool = False) -> CallStatus:
        return CallStatus(CallState.ENDED if urgent else CallState.RUNNING)

    async def cancel(self, call_id: str) -> None:
        self.cancelled.append(call_id)


def job(number: int, state: State, priority: int = 0) -> Job:
    submitted = JobSubmitted(
        workload="echo",
        workload_version="1",
        inputs={},
        params={},
        priority=priority,
        deadline=BEGIN + timedelta(hours=1),
    )
    return Job(
        id=f"job_{number}", tenant="acme", submitted=submitted, created_at=BEGIN, state=state, call_id=f"fc-{number}",
        first_sequence=number, sequence=number,
    )  # fmt: skip


def reconciler(*jobs: Job, executor: CachingExecutor) -> tuple[Reconciler, StaticLifecycle]:
    unfinished = UnfinishedJobs()
    lifecycle = StaticLifecycle(unfinished)
    for each in jobs:
        unfinished.put(each)
    made = Reconciler(unfinished, Limits(2, 2, 2), lifecycle, executor, is_connected=lambda: True)  # type: ignore[arg-type]
    return made, lifecycle


async def lead_for(made: Reconciler, seconds: float) -> None:
    leading = asyncio.create_task(made.lead())
    await asyncio.sleep(seconds)
    await end(leading)


def test_running_jobs_take_their_slots_before_a_waiting_job_gets_one() -> None:
    """A waiting job may be older than the running ones: it was retried, or belongs to a busy tenant."""
    jobs = [job(1, State.QUEUED), job(2, State.RUNNING), job(3, State.STARTING)]
    made, lifecycle = reconciler(*jobs, executor=CachingExecutor())
    run(lead_for(made, 10))
    assert lifecycle.granted == []


def test_a_running_job_that_was_retried_after_its_end_has_its_slot_after_a_takeover() -> None:
    """It is not in memory: its earlier end had removed it."""
    made, lifecycle = reconciler(job(1, State.QUEUED), job(2, State.RUNNING), executor=CachingExecutor())
    lifecycle.stored["job_3"] = job(3, State.RUNNING)
    made.jobs.unloaded["job_3"] = "acme"
    run(lead_for(made, 10))
    assert lifecycle.granted == []


def test_a_new_leader_gives_free_slots_by_priority() -> None:
    """It knows all waiting jobs before it chooses, not only the first that it looks at."""
    jobs = [job(1, State.QUEUED), job(2, State.QUEUED), job(3, State.QUEUED, 2), job(4, State.QUEUED, 1)]
    made, lifecycle = reconciler(*jobs, executor=CachingExecutor())
    run(lead_for(made, 1))
    assert set(lifecycle.granted) == {"job_3", "job_4"}


def test_a_worker_that_has_exited_is_not_cancelled_because_of_an_outdated_answer() -> None:
    async def end_one() -> CachingExecutor:
        executor = CachingExecutor()
        made, _ = reconciler(executor=executor)
        leading = asyncio.create_task(lead_for(made, 30))
        await asyncio.sleep(1)
        made.on_ended("job_1", job(1, State.SUCCEEDED))
        await leading
        assert not made._lingering_calls
        return executor

    assert run(end_one()).cancelled == []


def test_a_slow_executor_does_not_delay_the_resync() -> None:
    """If hundreds of calls were polled one after the other, the connection to the bus would not be checked."""

    class SlowExecutor(CachingExecutor):
        async def poll(self, _: str, *, urgent: bool = False) -> CallStatus:
            await asyncio.sleep(10.0)
            return await super().poll(_, urgent=urgent)

    async def end_many() -> tuple[float, int]:
        made, lifecycle = reconciler(executor=SlowExecutor())
        leading = asyncio.create_task(lead_for(made, 120))
        await asyncio.sleep(1)
        for number in range(64):
            made.on_ended(f"job_{number}", job(number, State.SUCCEEDED))
        made._is_connected = lambda: False
        await asyncio.sleep(60)
        unchecked_s = asyncio.get_running_loop().time() - lifecycle.listening_since_s
        await leading
        return unchecked_s, len(made._lingering_calls)

    unchecked_s, lingering = run(end_many())
    assert unchecked_s <= 2.0
    assert lingering == 0
