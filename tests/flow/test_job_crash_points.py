"""The dispatcher dies at each single await that changes or asks anything, before it and after it; the next one
finishes every job exactly once. The points are enumerated: all in a soak, in each other run one of ``SHARE``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from contracts.errors import ErrorCode
from contracts.job import State
from tests.harness.dispatch.crashing_dispatcher import CrashingExecutor, CrashingStore, CrashTrigger
from tests.harness.dispatch.dispatcher import (
    DispatcherHarness,
    Servers,
    kill,
    open_dispatcher_harness,
    shared_servers,
    workload,
)
from tests.harness.dispatch.scripted_executor import Killed, Script, ScriptedExecutor, Worker, works
from tests.harness.share import Share

pytestmark = pytest.mark.anyio

#: A scenario with more steps than this does not end.
MOST_POINTS = 60
#: Beside both sides of the last steps, one of so many points is died at.
SHARE = 3
QUICK = {"poll_s": 0.02, "find_s": 0.1, "backoff_s": 0.01}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("crash")) as both:
        yield both


async def loses_a_worker(worker: Worker) -> None:
    await worker.claim()
    raise Killed


async def leaves_only_a_manifest(worker: Worker) -> None:
    await worker.claim()
    await worker.leave_manifest()
    raise Killed


async def is_no_good(worker: Worker) -> None:
    await worker.claim()
    await worker.interrupted("user", ErrorCode.CLIP_STATIC)


async def is_cancelled(worker: Worker) -> None:
    if await worker.claim():
        await worker.work_until_stopped()


async def takes_its_time(worker: Worker) -> None:
    if await worker.claim():
        await asyncio.sleep(0.15)
        await worker.succeed()


SCENARIOS: dict[str, tuple[list[Script], State]] = {
    "a quick worker": ([works], State.SUCCEEDED),
    "a slow worker": ([takes_its_time], State.SUCCEEDED),
    "a worker that is lost": ([loses_a_worker, works], State.SUCCEEDED),
    "a worker that leaves only its manifest": ([leaves_only_a_manifest], State.SUCCEEDED),
    "a user's error": ([is_no_good], State.FAILED),
    "a cancelled job": ([is_cancelled], State.CANCELLED),
}


async def play(harness: DispatcherHarness, scripts: list[Script], expected: State, trigger: CrashTrigger) -> list[str]:
    """Run a job under a dispatcher that may die, then under the next one; gives what happened to the job."""
    executor = ScriptedExecutor(harness.store, harness.bucket, *scripts)
    one = workload(max_attempts=6)
    first = harness.dispatcher(
        CrashingExecutor(executor, trigger), one, store=CrashingStore(harness.client, trigger), **QUICK
    )
    job_id = await harness.submit()
    running = asyncio.create_task(first.run(asyncio.Event()))
    cancelling = asyncio.create_task(_cancel_when_running(harness, job_id)) if expected is State.CANCELLED else None
    ended = asyncio.create_task(harness.reach(job_id))
    dead = asyncio.create_task(trigger.dead.wait())
    await asyncio.wait([ended, dead], return_when=asyncio.FIRST_COMPLETED)
    await kill(running)
    await harness.forget_lease()
    try:
        async with harness.dispatching(harness.dispatcher(executor, one, **QUICK)):
            job = await ended
            # Nobody has anything to add to a job that has ended.
            await asyncio.sleep(0.02)
        if cancelling:
            await cancelling
    finally:
        dead.cancel()
        ended.cancel()
    verbs = await harness.verbs(job_id)
    assert job.state is expected, verbs
    assert sum(verbs.count(end) for end in ("succeeded", "failed", "cancelled")) == 1, verbs
    assert len(set(await _runs_started(harness, job_id))) == verbs.count("started"), "no run is claimed twice"
    assert not executor.at_work()
    assert verbs.count("starting") == verbs.count("retrying") + 1, verbs
    if len(scripts) == 1 and "launch" in trigger.passed[: trigger.passed_whole]:
        assert len(executor.launched) == 1, "a worker that was launched is adopted, not launched again"
    return verbs


async def _cancel_when_running(harness: DispatcherHarness, job_id: str) -> None:
    await harness.reach(job_id, State.RUNNING)
    await harness.cancel(job_id)


async def _runs_started(harness: DispatcherHarness, job_id: str) -> list[str]:
    return [data["run_id"] for verb, data in await harness.events(job_id) if verb == "started"]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_whichever_line_it_dies_at(servers: Servers, name: str, share: Share) -> None:
    scripts, expected = SCENARIOS[name]
    async with open_dispatcher_harness(*servers) as harness:
        whole = CrashTrigger(None, after=False)
        await play(harness, scripts, expected, whole)
        assert "launch" in whole.passed
        died: list[str] = []
        for at in range(MOST_POINTS):
            reached = at < len(whole.passed)
            for after in (False, True):
                if reached and not share.takes(2 * at + after, SHARE):
                    continue
                await harness.clear()
                trigger = CrashTrigger(at, after=after)
                try:
                    await play(harness, scripts, expected, trigger)
                except AssertionError as error:
                    error.add_note(f"{name}: died {'after' if after else 'before'} step {at} of {trigger.passed}")
                    raise
                if trigger.dead.is_set():
                    reached = True
                    died.append(f"{'after' if after else 'before'} {trigger.passed[at]}")
            if not reached:
                break
        else:
            pytest.fail(f"{name} does not end: {whole.passed}")
        assert len(died) >= len(whole.passed) // SHARE, (share, died)
        # Each kind of step was died at, on both sides of it.
        for step in {one for one in whole.passed if one != "load" and share.is_whole}:
            assert {f"before {step}", f"after {step}"} <= set(died), (step, died)
