"""What a job only keeps to go on from is removed when its time is over, sooner or later if its user says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from contracts.events.job import JobScratchRemoved
from contracts.job import State
from tests.dispatching import Servers, World, a_world, shared_servers, workload
from tests.gateway import Running, code_of, running_gateway
from tests.pipelines import half_done_until_stopped, reach_part, relay, relay_catalog, stage_executor
from tests.scripted_executor import ScriptedExecutor, Worker

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with relay_catalog(), shared_servers(tmp_path_factory.mktemp("retention")) as both:
        yield both


@pytest.fixture
async def world(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("DISPATCHER_SWEEP_S", "0.05")
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", str(0.3 / HOUR_S))
    async with a_world(*servers) as found:
        yield found


@pytest.fixture
async def running(world: World, servers: Servers, tmp_path: Path) -> AsyncIterator[Running]:
    nats, s3 = servers
    assert world
    async with running_gateway(nats.settings, s3.settings, tmp_path) as found:
        yield found


async def leave_scratch(world: World, job_id: str) -> None:
    for name in ("a.bin", "b.bin"):
        await world.bucket.put(world.bucket.key("scratch", job_id, "checkpoints", name), b"x")


async def scratch_of(world: World, job_id: str) -> list[str]:
    return await world.bucket.list_keys(f"{world.bucket.key('scratch', job_id)}/")


async def until_removed(world: World, job_id: str) -> None:
    with anyio.fail_after(10.0):
        while await scratch_of(world, job_id):
            await anyio.sleep(0.02)


async def keeps_and_works(worker: Worker) -> None:
    if await worker.claim():
        await worker.bucket.put(worker.bucket.key("scratch", worker.assignment.job_id, "checkpoints", "a.bin"), b"x")
        await worker.succeed()


async def test_it_goes_when_its_time_is_over_and_results_stay(world: World) -> None:
    async with world.dispatching(world.dispatcher(ScriptedExecutor(world.store, world.bucket, keeps_and_works))):
        ended, kept = await world.submit(), await world.submit(params={"keep_hours": 1})
        job = await world.reach(ended)
        await world.reach(kept)
        await until_removed(world, ended)
        verbs = await world.events(ended)
        assert verbs[-1] == ("scratch_removed", {"files": 1})
        after = await world.job(ended)
        assert (after.state, after.result) == (State.SUCCEEDED, job.result)
        assert after.scratch_removed_at
        assert await world.bucket.size(world.bucket.key("results", ended, "manifest.json"))
        assert len(await scratch_of(world, kept)) == 1, "its parameters ask for an hour"


async def test_what_is_under_way_keeps_it(world: World) -> None:
    executor = ScriptedExecutor(world.store, world.bucket, half_done_until_stopped)
    async with world.dispatching(world.dispatcher(executor)):
        job_id = await world.submit()
        await world.reach(job_id, State.RUNNING)
        await leave_scratch(world, job_id)
        await anyio.sleep(0.6)
        assert len(await scratch_of(world, job_id)) == 2
        await world.cancel(job_id)
        await world.reach(job_id)
        await until_removed(world, job_id)


async def test_a_dispatcher_that_died_in_between_leaves_nothing_and_says_it_once(world: World) -> None:
    async with world.dispatching(world.dispatcher(ScriptedExecutor(world.store, world.bucket))):
        job_id = await world.submit()
        await world.reach(job_id)
    job = await world.job(job_id)
    await leave_scratch(world, job_id)
    await world.publish(job_id, "acme", JobScratchRemoved(files=2), after=job.sequence)
    async with world.dispatching(world.dispatcher(ScriptedExecutor(world.store, world.bucket))):
        await until_removed(world, job_id)
    assert (await world.verbs(job_id)).count("scratch_removed") == 1


async def test_a_user_has_it_removed_at_once_or_kept_for_longer(
    world: World, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", "48")
    monkeypatch.setenv("DISPATCHER_SWEEP_S", "600")

    async def post(path: str, body: dict[str, Any]) -> Any:
        return await running.http.post(f"/v1/jobs/{job_id}/{path}", json=body)

    one_to_end = stage_executor(world, {("gather", 0): [half_done_until_stopped]})
    async with world.dispatching(world.dispatcher(one_to_end, workload(), *relay())):
        job_id = await world.submit(tenant="local", workload="relay")
        await reach_part(world, job_id, "gather", 0, State.RUNNING, tenant="local")
        assert code_of(await post("extend", {"hours": 5})) == "artifacts_not_ready"
        await world.cancel(job_id, "local")
        await world.reach(job_id, tenant="local")
        await leave_scratch(world, job_id)
        before = (await running.http.get(f"/v1/jobs/{job_id}")).json()["retention"]["kept_until"]
        longer = (await post("extend", {"hours": 100})).json()["kept_until"]
        assert longer > before
        assert (await post("confirm-download", {})).json()["kept_until"] == longer
        assert (await post("confirm-download", {"remove": True})).status_code == 200
        await until_removed(world, job_id)
        shown = (await running.http.get(f"/v1/jobs/{job_id}")).json()["retention"]
        assert shown["kept_until"] is None
        assert shown["removed_at"]
        assert code_of(await post("extend", {"hours": 5})) == "scratch_removed"
        assert code_of(await post("retry", {})) == "scratch_removed"
