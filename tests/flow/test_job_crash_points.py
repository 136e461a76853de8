"""The dispatcher dies at each single await that changes or asks anything, before it and after it; the next one
finishes every job exactly once. The points are enumerated, not sampled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from contracts.errors import ErrorCode
from contracts.job import State
from tests.harness.dispatch.crashing_dispatcher import Doom, DoomedExecutor, DoomedStore
from tests.harness.dispatch.dispatcher import Servers, World, a_world, kill, shared_servers, workload
from tests.harness.dispatch.scripted_executor import Killed, Script, ScriptedExecutor, Worker, works

pytestmark = pytest.mark.anyio

#: A scenario with more steps than this does not end.
MOST_POINTS = 60
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


async def play(world: World, scripts: list[Script], expected: State, doom: Doom) -> list[str]:
    """Run a job under a dispatcher that may die, then under the next one; gives what happened to the job."""
    executor = ScriptedExecutor(world.store, world.bucket, *scripts)
    one = workload(max_attempts=6)
    first = world.dispatcher(DoomedExecutor(executor, doom), one, store=DoomedStore(world, doom), **QUICK)
    job_id = await world.submit()
    running = asyncio.create_task(first.run(asyncio.Event()))
    cancelling = asyncio.create_task(_cancel_when_running(world, job_id)) if expected is State.CANCELLED else None
    ended = asyncio.create_task(world.reach(job_id))
    dead = asyncio.create_task(doom.dead.wait())
    await asyncio.wait([ended, dead], return_when=asyncio.FIRST_COMPLETED)
    await kill(running)
    await world.forget_lease()
    try:
        async with world.dispatching(world.dispatcher(executor, one, **QUICK)):
            job = await ended
            # Nobody has anything to add to a job that has ended.
            await asyncio.sleep(0.02)
        if cancelling:
            await cancelling
    finally:
        dead.cancel()
        ended.cancel()
    verbs = await world.verbs(job_id)
    assert job.state is expected, verbs
    assert sum(verbs.count(end) for end in ("succeeded", "failed", "cancelled")) == 1, verbs
    assert len(set(await _runs_started(world, job_id))) == verbs.count("started"), "no run is claimed twice"
    assert not executor.at_work()
    assert verbs.count("starting") == verbs.count("retrying") + 1, verbs
    if len(scripts) == 1 and "launch" in doom.passed[: doom.passed_whole]:
        assert len(executor.launched) == 1, "a worker that was launched is adopted, not launched again"
    return verbs


async def _cancel_when_running(world: World, job_id: str) -> None:
    await world.reach(job_id, State.RUNNING)
    await world.cancel(job_id)


async def _runs_started(world: World, job_id: str) -> list[str]:
    return [data["run_id"] for verb, data in await world.events(job_id) if verb == "started"]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_whichever_line_it_dies_at(servers: Servers, name: str) -> None:
    scripts, expected = SCENARIOS[name]
    async with a_world(*servers) as world:
        whole = Doom(None, after=False)
        await play(world, scripts, expected, whole)
        assert "launch" in whole.passed
        died: list[str] = []
        for at in range(MOST_POINTS):
            reached = False
            for after in (False, True):
                await world.clear()
                doom = Doom(at, after=after)
                try:
                    await play(world, scripts, expected, doom)
                except AssertionError as error:
                    error.add_note(f"{name}: died {'after' if after else 'before'} step {at} of {doom.passed}")
                    raise
                if doom.dead.is_set():
                    reached = True
                    died.append(f"{'after' if after else 'before'} {doom.passed[at]}")
            if not reached:
                break
        else:
            pytest.fail(f"{name} does not end: {whole.passed}")
        # Each kind of step was died at, on both sides of it.
        for step in {one for one in whole.passed if one != "load"}:
            assert {f"before {step}", f"after {step}"} <= set(died), (step, died)
