"""The dispatcher dies at an await that acts for a pipeline; the next one goes on and does everything exactly once."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterator
from typing import Any

import pytest

from contracts.errors import ErrorCode
from contracts.events.base import Message
from contracts.ids import pipeline_id_of
from contracts.job import State
from kit.bus.event_store import EventStore
from tests.harness.dispatch.crashing_dispatcher import CrashingExecutor, CrashingStore, CrashTrigger
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, kill, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.pipelines import (
    STAGES,
    half_done_until_stopped,
    jobs_of,
    leaves_a_file,
    paid,
    relay,
    show_a_file,
    stage_executor,
    whole,
)
from tests.harness.dispatch.scripted_executor import Worker

pytestmark = pytest.mark.anyio

QUICK = {"poll_s": 0.02, "find_s": 0.1, "backoff_s": 0.01}
#: Of all points, so many are died at in one run of the suite; which ones, chance says.
POINTS = 7


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("crash")) as both:
        yield both


class PipelineDoom(CrashTrigger):
    """Counts what is said of a pipeline and what submits, cancels or retries a stage's job; dead, nothing acts."""

    async def run(self, name: str, act: Any) -> Any:
        if name.startswith(PipelineStore.MARK) or self.dead.is_set():
            return await super().run(name, act)
        return await act()


class PipelineStore(CrashingStore):
    """Marks the publishes that act for a pipeline."""

    MARK = "publish pipeline's"

    async def publish(self, message: Message, **condition: Any) -> int:
        *_, job_id, verb = message.subject.split(".")
        act = functools.partial(EventStore.publish, self, message, **condition)
        counts = pipeline_id_of(job_id) is None or verb in ("submitted", "cancel_requested", "retrying")
        return int(await self._trigger.run(f"{self.MARK if counts else 'publish'} {verb}", act))


async def is_refused(worker: Worker) -> None:
    if await worker.claim():
        await show_a_file(worker)
        await worker.interrupted("user", ErrorCode.CLIP_STATIC)


async def play(harness: DispatcherHarness, trigger: CrashTrigger) -> None:
    """A shard is refused while another one runs, somebody asks for the pipeline again, and it succeeds."""
    executor = stage_executor(
        harness, {("shape", 1): [is_refused, leaves_a_file], ("shape", 2): [half_done_until_stopped, leaves_a_file]}
    )
    crashing = CrashingExecutor(executor, trigger)
    first = harness.dispatcher(crashing, *relay(), store=PipelineStore(harness.client, trigger), **QUICK)
    job_id = await harness.submit(workload="relay")
    running = asyncio.create_task(first.run(asyncio.Event()))
    ended = asyncio.create_task(_live_through(harness, job_id))
    dead = asyncio.create_task(trigger.dead.wait())
    await asyncio.wait([ended, dead], return_when=asyncio.FIRST_COMPLETED)
    await kill(running)
    await harness.forget_lease()
    try:
        async with harness.dispatching(harness.dispatcher(executor, *relay(), **QUICK)):
            await ended
            await asyncio.sleep(0.02)
    finally:
        dead.cancel()
        ended.cancel()
        await executor.end()
    verbs = await harness.verbs(job_id)
    assert (verbs.count("failed"), verbs.count("succeeded"), verbs.count("starting")) == (1, 1, 2), verbs
    assert verbs.count("stage_completed") == len(STAGES), verbs
    parts = await jobs_of(harness, job_id)
    for part_id in parts:
        of_part = await harness.verbs(part_id)
        assert of_part.count("succeeded") == 1
        assert of_part[-1] == "succeeded", "what has succeeded is not done again"
    launched = [(one.job_id, one.attempt) for one in executor.launched]
    assert len(launched) == len(set(launched)), "no attempt is launched twice"
    assert (await whole(harness, job_id)).actual_usd == paid(parts) > 0
    files = [data["artifact"]["name"] for verb, data in await harness.events(job_id) if verb == "artifact_ready"]
    owners = [one.submitted.part_of for one in parts.values() if one.submitted.part_of]
    assert sorted(files) == sorted(f"{one.stage}_{one.shard}.txt" for one in owners)


async def _live_through(harness: DispatcherHarness, job_id: str) -> None:
    await harness.reach(job_id, State.FAILED)
    await harness.retry(job_id)
    await harness.reach(job_id, State.SUCCEEDED)


async def test_whichever_line_it_dies_at(servers: Servers) -> None:
    seed = random.randrange(2**32)
    async with open_dispatcher_harness(*servers) as harness:
        unharmed = PipelineDoom(None, after=False)
        await play(harness, unharmed)
        acts = set(unharmed.passed)
        said = ("queued", "starting", "started", "submitted", "cancel_requested", "interrupted", "failed", "retrying")
        assert {
            f"{PipelineStore.MARK} {verb}" for verb in (*said, "artifact_ready", "stage_completed", "succeeded")
        } <= acts
        for at in random.Random(seed).sample(range(len(unharmed.passed)), POINTS):
            after = bool(at % 2)
            await harness.clear()
            trigger = PipelineDoom(at, after=after)
            try:
                await play(harness, trigger)
            except (AssertionError, TimeoutError) as error:
                side = "after" if after else "before"
                error.add_note(f"seed {seed}: died {side} step {at} of {trigger.passed}")
                raise
            assert trigger.dead.is_set() or at >= len(trigger.passed)
