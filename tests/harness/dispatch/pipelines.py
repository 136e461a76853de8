"""A pipeline of three stages for tests, the middle one fanned out, with jobs that a test scripts by stage and shard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import anyio
import pytest

from contracts.events.job import JobArtifactReady
from contracts.ids import stage_job_id
from contracts.job import Job, State
from contracts.manifest import Artifact
from contracts.workload import Workload
from modal_workers import catalog
from services.dispatcher.jobs.unfinished_jobs import fold_all
from tests.harness.dispatch.dispatcher import DispatcherHarness
from tests.harness.dispatch.scripted_executor import Script, ScriptedExecutor, Worker
from tests.pipeline_workers.relay import spec as whole_spec
from tests.pipeline_workers.relay.bind import spec as bind_spec
from tests.pipeline_workers.relay.gather import spec as gather_spec
from tests.pipeline_workers.relay.shape import spec as shape_spec

SHARDS = 3
STAGES = ("gather", "shape", "bind")


def relay() -> list[Workload]:
    """Return the pipeline and its stages' workloads, the pipeline first."""
    return [whole_spec.WORKLOAD, gather_spec.WORKLOAD, shape_spec.WORKLOAD, bind_spec.WORKLOAD]


@contextmanager
def relay_catalog() -> Iterator[None]:
    """Make the catalog find the pipeline, in this process and in the workers that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKER_CATALOG", "tests.pipeline_workers")
        catalog.forget_found()
        yield
    catalog.forget_found()


def artifact_of(worker: Worker, name: str, digit: str = "a") -> Artifact:
    home = worker.assignment.output_job_id
    return Artifact(
        name=name, key=worker.bucket.key("results", home, name), bytes=3, sha256=digit * 64, media_type="text/plain"
    )


async def leaves_a_file(worker: Worker) -> None:
    """The script of a stage's worker that does its work: it leaves one file, named after stage and shard."""
    if await worker.claim():
        await show_a_file(worker)
        await worker.succeed()


async def show_a_file(worker: Worker) -> None:
    one = worker.assignment
    assert one.part_of
    name = f"{one.part_of.stage}_{one.part_of.shard}.txt"
    data = JobArtifactReady(attempt=one.attempt, run_id=one.run_id, artifact=artifact_of(worker, name))
    await worker.say(data, f"artifact.{name}", State.RUNNING)


async def half_done_until_stopped(worker: Worker) -> None:
    """The script of a worker that is at half of its work until it is asked to stop."""
    if await worker.claim():
        await worker.work_until_stopped()


ByPart = Mapping[tuple[str, int], list[Script]]


def stage_executor(harness: DispatcherHarness, parts: ByPart | None = None) -> ScriptedExecutor:
    """Make an executor whose workers play what is asked for of their stage and shard, launch by launch."""
    launches: Counter[str] = Counter()

    async def plays(worker: Worker) -> None:
        one = worker.assignment
        assert one.part_of, "a pipeline is never launched itself"
        scripts = (parts or {}).get((one.part_of.stage, one.part_of.shard), [leaves_a_file])
        launches[one.job_id] += 1
        script: Callable[[Worker], Awaitable[None]] = scripts[min(launches[one.job_id], len(scripts)) - 1]
        await script(worker)

    return ScriptedExecutor(harness.store, harness.bucket, plays)


def parts_of(pipeline_id: str, shards: int = SHARDS) -> list[str]:
    """Name all jobs of the pipeline's stages, in order."""
    return [
        stage_job_id(pipeline_id, stage, shard)
        for stage in STAGES
        for shard in range(shards if stage == "shape" else 1)
    ]


async def jobs_of(harness: DispatcherHarness, pipeline_id: str) -> dict[str, Job]:
    """Fold every job of the pipeline's stages that there is, from all its events."""
    found: dict[str, Job] = {}
    for job_id in parts_of(pipeline_id):
        stored = [one async for one in harness.store.history(0, f"saccade.evt.*.job.{job_id}.*")]
        if (job := fold_all(stored)) is not None:
            found[job_id] = job
    return found


async def reach_part(
    harness: DispatcherHarness, pipeline_id: str, stage: str, shard: int, *states: State, tenant: str = "acme"
) -> Job:
    """Wait until the job of a shard is there, and in one of these states; by default, until it has ended."""
    job_id = stage_job_id(pipeline_id, stage, shard)
    with anyio.fail_after(10.0):
        while not await harness.store.load(f"saccade.evt.*.job.{job_id}.*"):
            await anyio.sleep(0.01)
    return await harness.reach(job_id, *states, tenant=tenant)


async def whole(harness: DispatcherHarness, job_id: str) -> Job:
    """Fold a job from all its events, which alone tell what each attempt cost."""
    job = fold_all([one async for one in harness.store.history(0, f"saccade.evt.*.job.{job_id}.*")])
    assert job is not None
    return job


def paid(parts: Mapping[str, Job]) -> float:
    """Add up what the jobs of a pipeline's stages cost."""
    return round(sum(cost.usd for job in parts.values() for cost in job.costs.values()), 6)
