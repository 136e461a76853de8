"""A pipeline from its submission to its end, over a real bus and bucket, with scripted workers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from contracts.ids import stage_job_id
from contracts.job import State
from tests.dispatching import Servers, World, a_world, shared_servers
from tests.pipelines import SHARDS, jobs_of, paid, parts_of, relay, stage_executor, whole

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("pipelines")) as both:
        yield both


async def submit(world: World, **fields: object) -> str:
    return await world.submit(workload="relay", **fields)


async def test_its_stages_run_one_after_the_other_and_their_files_are_its_own(servers: Servers) -> None:
    async with a_world(*servers) as world:
        executor = stage_executor(world)
        async with world.dispatching(world.dispatcher(executor, *relay())):
            job_id = await submit(world)
            job = await world.reach(job_id)
        assert job.state is State.SUCCEEDED
        assert await world.verbs(job_id) == [
            "submitted", "queued", "starting", "started", "artifact_ready", "stage_completed",
            *["artifact_ready"] * SHARDS, "stage_completed", "artifact_ready", "stage_completed", "succeeded",
        ]  # fmt: skip
        launched = [one.job_id for one in executor.launched]
        assert launched[0] == stage_job_id(job_id, "gather", 0)
        assert launched[-1] == stage_job_id(job_id, "bind", 0)
        assert sorted(launched) == sorted(parts_of(job_id))
        assert all(one.home_id == job_id for one in executor.launched)
        manifest = json.loads(await world.bucket.get(job.manifest_key or ""))
        names = ["bind_0.txt", "gather_0.txt", *(f"shape_{shard}.txt" for shard in range(SHARDS))]
        assert [one["name"] for one in manifest["artifacts"]] == names
        parts = await jobs_of(world, job_id)
        assert (await whole(world, job_id)).actual_usd == paid(parts) > 0
