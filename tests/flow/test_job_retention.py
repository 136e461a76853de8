"""What a job only keeps to go on from is removed when its time is over, sooner or later if its user says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from contracts.errors import ErrorCode
from contracts.events.job import JobScratchRemoved
from contracts.job import State
from kit.s3_client import StorageRefused
from services.dispatcher.lifecycle import scratch_sweep
from tests.harness.dispatch.dispatcher import (
    DispatcherHarness,
    Servers,
    kill,
    open_dispatcher_harness,
    shared_servers,
    workload,
)
from tests.harness.dispatch.pipelines import half_done_until_stopped, reach_part, relay, relay_catalog, stage_executor
from tests.harness.dispatch.scripted_executor import ScriptedExecutor, Worker
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway

pytestmark = pytest.mark.anyio

HOUR_S = 3600.0
#: Longer than anything takes on a busy machine.
WAIT_S = 30.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with relay_catalog(), shared_servers(tmp_path_factory.mktemp("retention")) as both:
        yield both


@pytest.fixture
async def harness(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DispatcherHarness]:
    monkeypatch.setenv("DISPATCHER_SWEEP_S", "0.05")
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", str(0.3 / HOUR_S))
    async with open_dispatcher_harness(*servers) as found:
        yield found


@pytest.fixture
async def running(harness: DispatcherHarness, servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    nats, s3 = servers
    assert harness
    async with running_gateway(nats.settings, s3.settings, tmp_path) as found:
        yield found


async def leave_scratch(harness: DispatcherHarness, job_id: str) -> None:
    for name in ("a.bin", "b.bin"):
        await harness.bucket.put(harness.bucket.key("scratch", job_id, "checkpoints", name), b"x")


async def scratch_of(harness: DispatcherHarness, job_id: str) -> list[str]:
    return await harness.bucket.list_keys(f"{harness.bucket.key('scratch', job_id)}/")


async def until_removed(harness: DispatcherHarness, job_id: str) -> None:
    with anyio.fail_after(WAIT_S):
        while await scratch_of(harness, job_id):
            await anyio.sleep(0.02)


async def keeps_and_works(worker: Worker) -> None:
    if await worker.claim():
        await worker.bucket.put(worker.bucket.key("scratch", worker.assignment.job_id, "checkpoints", "a.bin"), b"x")
        await worker.succeed()


async def test_it_goes_when_its_time_is_over_and_results_stay(harness: DispatcherHarness) -> None:
    async with harness.dispatching(
        harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket, keeps_and_works))
    ):
        ended, kept = await harness.submit(), await harness.submit(params={"keep_hours": 1})
        job = await harness.reach(ended)
        await harness.reach(kept)
        await until_removed(harness, ended)
        verbs = await harness.events(ended)
        assert verbs[-1] == ("scratch_removed", {"files": 1})
        after = await harness.job(ended)
        assert (after.state, after.result) == (State.SUCCEEDED, job.result)
        assert after.scratch_removed_at
        assert await harness.bucket.size(harness.bucket.key("results", ended, "manifest.json"))
        assert len(await scratch_of(harness, kept)) == 1, "its parameters ask for an hour"


async def test_files_that_the_bucket_refuses_to_delete_keep_no_others(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, locked = harness.bucket.call, ""

    async def refuse(operation: str, **params: Any) -> Any:
        if operation == "delete_object" and f"/{locked}/" in params["Key"] and params["Key"].endswith("/a.bin"):
            raise StorageRefused(ErrorCode.STORAGE_UNAVAILABLE)
        return await call(operation, **params)

    monkeypatch.setattr(scratch_sweep, "_REFUSED_RETRY", timedelta(seconds=1))
    async with harness.dispatching(
        harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket, keeps_and_works))
    ):
        jobs = sorted([await harness.submit() for _ in range(3)])
        locked = jobs[0]
        with monkeypatch.context() as patched:
            patched.setattr(harness.bucket, "call", refuse)
            for job_id in jobs[1:]:
                await harness.reach(job_id)
                await until_removed(harness, job_id)
            await harness.reach(locked)
            await leave_scratch(harness, locked)
            with anyio.fail_after(WAIT_S):
                while len(await scratch_of(harness, locked)) > 1:
                    await anyio.sleep(0.02)
            (left,) = await scratch_of(harness, locked)
            assert left.endswith("/a.bin")
        await until_removed(harness, locked)


async def test_what_is_under_way_keeps_it(harness: DispatcherHarness) -> None:
    executor = ScriptedExecutor(harness.store, harness.bucket, half_done_until_stopped)
    async with harness.dispatching(harness.dispatcher(executor)):
        job_id = await harness.submit()
        await harness.reach(job_id, State.RUNNING)
        await leave_scratch(harness, job_id)
        await anyio.sleep(0.6)
        assert len(await scratch_of(harness, job_id)) == 2
        await harness.cancel(job_id)
        await harness.reach(job_id)
        await until_removed(harness, job_id)


async def test_a_dispatcher_that_died_in_between_leaves_nothing_and_says_it_once(harness: DispatcherHarness) -> None:
    async with harness.dispatching(harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket))):
        job_id = await harness.submit()
        await harness.reach(job_id)
    job = await harness.job(job_id)
    await leave_scratch(harness, job_id)
    await harness.publish(job_id, "acme", JobScratchRemoved(files=2), after=job.sequence)
    async with harness.dispatching(harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket))):
        await until_removed(harness, job_id)
    assert (await harness.verbs(job_id)).count("scratch_removed") == 1


async def ended_with_scratch(harness: DispatcherHarness, *jobs: dict[str, Any]) -> list[str]:
    """Leave jobs that have ended, and what they kept, with nobody dispatching."""
    async with harness.dispatching(harness.dispatcher(ScriptedExecutor(harness.store, harness.bucket))):
        ended = [await harness.submit(params={"keep_hours": 1}, **job) for job in jobs]
        for job_id in ended:
            await harness.reach(job_id)
    # Only now: this dispatcher sweeps too, and on a busy machine it came to the first job before the second had ended.
    for job_id in ended:
        await leave_scratch(harness, job_id)
        job = await harness.job(job_id)
        await harness.publish(job_id, "acme", JobScratchRemoved(files=2), after=job.sequence)
    await harness.forget_lease()
    return ended


class Witness(ScriptedExecutor):
    """Sees what the bucket still has when the cache of a job is to go, and may never answer."""

    def __init__(self, harness: DispatcherHarness, *, hangs: bool = False) -> None:
        super().__init__(harness.store, harness.bucket)
        self._world = harness
        self._hangs = hangs
        self.left: list[list[str]] = []

    async def clear_cache(self, job_id: str) -> None:
        await super().clear_cache(job_id)
        self.left.append(await scratch_of(self._world, job_id))
        if self._hangs:
            await anyio.sleep_forever()


async def test_what_workers_cached_goes_before_the_last_key(harness: DispatcherHarness) -> None:
    (job_id,) = await ended_with_scratch(harness, {})
    witness = Witness(harness)
    async with harness.dispatching(harness.dispatcher(witness)):
        await until_removed(harness, job_id)
    assert witness.cleared == [job_id]
    assert [len(left) for left in witness.left] == [1]


async def test_a_dispatcher_that_dies_before_the_cache_is_gone_comes_again(harness: DispatcherHarness) -> None:
    (job_id,) = await ended_with_scratch(harness, {})
    dying = Witness(harness, hangs=True)
    task = asyncio.create_task(harness.dispatcher(dying).run(asyncio.Event()))
    with anyio.fail_after(WAIT_S):
        while not dying.left:
            await anyio.sleep(0.02)
    await kill(task)
    assert len(await scratch_of(harness, job_id)) == 1
    await harness.forget_lease()
    witness = Witness(harness)
    async with harness.dispatching(harness.dispatcher(witness)):
        await until_removed(harness, job_id)
    assert witness.cleared == [job_id]


async def test_a_cache_that_cannot_be_reached_holds_up_one_key_a_job_until_it_can(
    harness: DispatcherHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", "48")
    both = await ended_with_scratch(harness, {}, {})
    executor = ScriptedExecutor(harness.store, harness.bucket)
    executor.cache_is_away = True
    async with harness.dispatching(harness.dispatcher(executor)):
        with anyio.fail_after(WAIT_S):
            while len(executor.cleared) < 4 or [len(await scratch_of(harness, job_id)) for job_id in both] != [1, 1]:
                await anyio.sleep(0.02)
        later = await harness.submit()
        await harness.reach(later)
        executor.cache_is_away = False
        for job_id in both:
            await until_removed(harness, job_id)
    assert set(both) <= set(executor.cleared)


async def test_a_cache_that_is_never_reached_is_left_to_the_workers_in_the_end(harness: DispatcherHarness) -> None:
    (job_id,) = await ended_with_scratch(harness, {})
    executor = ScriptedExecutor(harness.store, harness.bucket)
    executor.cache_is_away = True
    async with harness.dispatching(harness.dispatcher(executor)):
        await until_removed(harness, job_id)
    removed_at = (await harness.job(job_id)).scratch_removed_at
    assert removed_at
    assert (datetime.now(UTC) - removed_at).total_seconds() >= 0.3, "the time after which workers remove it themselves"


async def test_a_pipeline_has_one_cache_and_it_goes_by_the_pipeline_s_name(harness: DispatcherHarness) -> None:
    executor = stage_executor(harness)
    async with harness.dispatching(harness.dispatcher(executor, workload(), *relay())):
        job_id = await harness.submit(workload="relay")
        await harness.reach(job_id)
        part = await reach_part(harness, job_id, "shape", 1)
        await leave_scratch(harness, job_id)
        await leave_scratch(harness, part.id)
        await until_removed(harness, job_id)
        await until_removed(harness, part.id)
    assert set(executor.cleared) == {job_id}


async def test_a_user_has_it_removed_at_once_or_kept_for_longer(
    harness: DispatcherHarness, running: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODAL_VOLUME_CLEANUP_HOURS", "48")
    monkeypatch.setenv("DISPATCHER_SWEEP_S", "600")

    async def post(path: str, body: dict[str, Any]) -> Any:
        return await running.http.post(f"/v1/jobs/{job_id}/{path}", json=body)

    one_to_end = stage_executor(harness, {("gather", 0): [half_done_until_stopped]})
    async with harness.dispatching(harness.dispatcher(one_to_end, workload(), *relay())):
        job_id = await harness.submit(tenant="local", workload="relay")
        await reach_part(harness, job_id, "gather", 0, State.RUNNING, tenant="local")
        assert code_of(await post("extend", {"hours": 5})) == "artifacts_not_ready"
        await harness.cancel(job_id, "local")
        await harness.reach(job_id, tenant="local")
        await leave_scratch(harness, job_id)
        before = (await running.http.get(f"/v1/jobs/{job_id}")).json()["retention"]["kept_until"]
        longer = (await post("extend", {"hours": 100})).json()["kept_until"]
        assert longer > before
        assert (await post("confirm-download", {})).json()["kept_until"] == longer
        assert (await post("confirm-download", {"remove": True})).status_code == 200
        await until_removed(harness, job_id)
        shown = (await running.http.get(f"/v1/jobs/{job_id}")).json()["retention"]
        assert shown["kept_until"] is None
        assert shown["removed_at"]
        assert code_of(await post("extend", {"hours": 5})) == "scratch_removed"
        assert code_of(await post("retry", {})) == "scratch_removed"
