"""What a dispatcher that takes over counts first, and whom it sees off."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from contracts.events.job import JobSubmitted
from contracts.job import Job, State
from services.dispatcher.executors.executor import CallState, CallStatus
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.scheduling.fair_queue import Limits
from services.dispatcher.scheduling.reconciler import Reconciler
from services.dispatcher.scheduling.requeue_after import Look
from tests.harness.dispatch.virtual_time import BEGIN, now, run


class Steps:
    """The lifecycle as the reconciler sees it: jobs stay as they are."""

    def __init__(self) -> None:
        self.listening_since_s = 0.0
        self.granted: list[str] = []

    def now(self) -> datetime:
        return now()

    def forget(self, _: str) -> None:
        return None

    async def attend(self, job_id: str, _: str, *, granted: bool) -> Look:
        if granted:
            self.granted.append(job_id)
        return Look(60.0)


class SlowToTell:
    """An executor whose answers are old unless it is asked urgently; its workers have ended."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    async def poll(self, _: str, *, urgent: bool = False) -> CallStatus:
        return CallStatus(CallState.ENDED if urgent else CallState.RUNNING)

    async def cancel(self, call_id: str) -> None:
        self.cancelled.append(call_id)


def job(number: int, state: State) -> Job:
    submitted = JobSubmitted(
        workload="echo", workload_version="1", inputs={}, params={}, deadline=BEGIN + timedelta(hours=1)
    )
    return Job(
        id=f"job_{number}", tenant="acme", submitted=submitted, created_at=BEGIN, state=state, call_id=f"fc-{number}",
        first_sequence=number, sequence=number,
    )  # fmt: skip


def reconciler(*jobs: Job, executor: SlowToTell) -> tuple[Reconciler, Steps]:
    known, steps = Jobs(), Steps()
    for one in jobs:
        known.put(one)
    made = Reconciler(known, Limits(2, 2, 2), steps, executor, is_connected=lambda: True)  # type: ignore[arg-type]
    return made, steps


async def lead_for(one: Reconciler, seconds: float) -> None:
    leading = asyncio.create_task(one.lead())
    await asyncio.sleep(seconds)
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)


def test_all_that_run_are_counted_before_the_first_that_waits_is_given_a_slot() -> None:
    """A job that waits may be older than those that run: it was retried, or belongs to a busy tenant."""
    jobs = [job(1, State.QUEUED), job(2, State.RUNNING), job(3, State.STARTING)]
    one, steps = reconciler(*jobs, executor=SlowToTell())
    run(lead_for(one, 10))
    assert steps.granted == []


def test_a_worker_that_has_gone_is_not_ended_for_an_old_answer() -> None:
    async def leaves() -> SlowToTell:
        executor = SlowToTell()
        one, _ = reconciler(executor=executor)
        leading = asyncio.create_task(lead_for(one, 30))
        await asyncio.sleep(1)
        one.leave("job_1", job(1, State.SUCCEEDED))
        await leading
        assert not one._leftovers
        return executor

    assert run(leaves()).cancelled == []


def test_an_executor_that_takes_its_time_to_answer_does_not_keep_the_jobs_waiting() -> None:
    """While it is asked about hundreds of calls, one after the other, nobody would look whether the bus is there."""

    class Away(SlowToTell):
        async def poll(self, _: str, *, urgent: bool = False) -> CallStatus:
            await asyncio.sleep(10.0)
            return await super().poll(_, urgent=urgent)

    async def leave() -> tuple[float, int]:
        one, steps = reconciler(executor=Away())
        leading = asyncio.create_task(lead_for(one, 120))
        await asyncio.sleep(1)
        for number in range(64):
            one.leave(f"job_{number}", job(number, State.SUCCEEDED))
        one._is_connected = lambda: False
        await asyncio.sleep(60)
        deaf_s = asyncio.get_running_loop().time() - steps.listening_since_s
        await leading
        return deaf_s, len(one._leftovers)

    deaf_s, left = run(leave())
    assert deaf_s <= 2.0
    assert left == 0
