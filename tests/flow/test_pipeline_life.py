"""A pipeline from its submission to its end, over a real bus and bucket, with scripted workers."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import pytest
from nats.aio.msg import Msg

from contracts.errors import SaccadeError
from contracts.events.base import decode
from contracts.ids import stage_job_id
from contracts.job import State
from kit.bucket import ObjectMissing
from services.dispatcher.pipelines import progress_publisher
from tests.harness.dispatch.dispatcher import DispatcherHarness, Servers, open_dispatcher_harness, shared_servers
from tests.harness.dispatch.pipelines import (
    SHARDS,
    half_done_until_stopped,
    jobs_of,
    paid,
    parts_of,
    reach_part,
    relay,
    stage_executor,
    whole,
)
from tests.harness.dispatch.scripted_executor import Worker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("pipelines")) as both:
        yield both


async def submit(harness: DispatcherHarness, **fields: object) -> str:
    return await harness.submit(workload="relay", **fields)


async def test_its_stages_run_one_after_the_other_and_their_files_are_its_own(servers: Servers) -> None:
    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness)
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await submit(harness)
            job = await harness.reach(job_id)
        assert job.state is State.SUCCEEDED
        assert await harness.verbs(job_id) == [
            "submitted", "queued", "starting", "started", "artifact_ready", "stage_completed",
            *["artifact_ready"] * SHARDS, "stage_completed", "artifact_ready", "stage_completed", "succeeded",
        ]  # fmt: skip
        launched = [one.job_id for one in executor.launched]
        assert launched[0] == stage_job_id(job_id, "gather", 0)
        assert launched[-1] == stage_job_id(job_id, "bind", 0)
        assert sorted(launched) == sorted(parts_of(job_id))
        assert all(one.output_job_id == job_id for one in executor.launched)
        manifest = json.loads(await harness.bucket.get(job.manifest_key or ""))
        names = ["bind_0.txt", "gather_0.txt", *(f"shape_{shard}.txt" for shard in range(SHARDS))]
        assert [one["name"] for one in manifest["artifacts"]] == names
        parts = await jobs_of(harness, job_id)
        assert (await whole(harness, job_id)).actual_usd == paid(parts) > 0


async def test_how_far_it_is_is_told_as_an_event_and_as_a_file(servers: Servers) -> None:
    told: list[dict[str, Any]] = []

    async def hear(message: Msg) -> None:
        told.append(decode(message.data).data)

    async with open_dispatcher_harness(*servers) as harness:
        executor = stage_executor(harness, {("shape", 1): [half_done_until_stopped]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            job_id = await submit(harness)
            await harness.client.subscribe(f"saccade.prog.*.job.{job_id}.progressed", cb=hear)
            await reach_part(harness, job_id, "shape", 1, State.RUNNING)
            # The first stage, and of the second two shards and half of the third one.
            await until(lambda: bool(told) and told[-1]["fraction"] == pytest.approx(0.2 + 0.6 * 2.5 / 3, abs=1e-3))
            assert told[-1]["stage"] == "shape"
            assert told[-1]["message"] == "2 of 3 parts are done. Shape"
            assert [one["fraction"] for one in told] == sorted(one["fraction"] for one in told)
            file = await progress_file(harness, job_id)
            assert file["state"] == "running"
            assert [one["done"] for one in file["stages"]] == [True, False, False]
            gather = (await jobs_of(harness, job_id))[stage_job_id(job_id, "gather", 0)]
            assert file["stages"][0]["cost_usd"] == paid({gather.id: gather}) > 0
            assert file["stages"][2]["cost_usd"] == 0
            await harness.cancel(job_id)
            await harness.reach(job_id, State.CANCELLED)
            await until_async(lambda: _state_is(harness, job_id, "cancelled"))


async def test_the_file_of_a_pipeline_that_is_done_says_so(servers: Servers) -> None:
    async with (
        open_dispatcher_harness(*servers) as harness,
        harness.dispatching(harness.dispatcher(stage_executor(harness), *relay())),
    ):
        job_id = await submit(harness)
        await harness.reach(job_id)
        file = await progress_file(harness, job_id)
        assert (file["state"], file["fraction"]) == ("succeeded", 1.0)


async def test_the_file_of_a_pipeline_that_is_done_stays_exact(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was last read for an event, when the last stage still ran, replaces nothing."""
    written: list[dict[str, Any]] = []
    last_stage_told = anyio.Event()

    async def hear(message: Msg) -> None:
        if decode(message.data).data["stage"] == "bind":
            last_stage_told.set()

    async def ends_when_told(worker: Worker) -> None:
        await worker.claim()
        await last_stage_told.wait()
        await worker.succeed()

    async with open_dispatcher_harness(*servers) as harness:
        put = harness.bucket.put

        async def noted(key: str, body: bytes, **more: Any) -> Any:
            if key.endswith("progress.json"):
                written.append(json.loads(body))
            return await put(key, body, **more)

        monkeypatch.setattr(harness.bucket, "put", noted)
        await harness.client.subscribe("saccade.prog.*.job.*.progressed", cb=hear)
        executor = stage_executor(harness, {("bind", 0): [ends_when_told]})
        async with harness.dispatching(harness.dispatcher(executor, *relay())):
            await harness.reach(await submit(harness))
            # The pipeline's own, and once more after what was about to be written before.
            await until(lambda: sum(file["state"] == "succeeded" for file in written) == 2)
            assert [stage["done"] for stage in written[-1]["stages"]] == [True, True, True]
            assert written[-1]["message"] == "Done."


async def test_a_pipeline_that_waits_says_and_writes_nothing(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """One slot, which another pipeline holds; intervals so short that whatever is repeated shows at once."""
    monkeypatch.setattr(progress_publisher, "_EVENT_INTERVAL_S", 0.02)
    monkeypatch.setattr(progress_publisher, "_FILE_INTERVAL_S", 0.02)
    heard: Counter[str] = Counter()

    async def hear(message: Msg) -> None:
        heard[message.subject.split(".")[4]] += 1

    async with open_dispatcher_harness(*servers) as harness:
        put = harness.bucket.put

        async def counted(key: str, *given: Any, **more: Any) -> Any:
            heard[key] += 1
            return await put(key, *given, **more)

        monkeypatch.setattr(harness.bucket, "put", counted)
        await harness.client.subscribe("saccade.*.*.job.*.*", cb=hear)
        executor = stage_executor(harness, {("gather", 0): [half_done_until_stopped]})
        async with harness.dispatching(harness.dispatcher(executor, *relay(), slots=1)):
            busy = await submit(harness)
            await reach_part(harness, busy, "gather", 0, State.RUNNING)
            waiting = await submit(harness)
            await reach_part(harness, waiting, "gather", 0, State.QUEUED)
            mine = (
                waiting,
                stage_job_id(waiting, "gather", 0),
                harness.bucket.key("results", waiting, "progress.json"),
            )
            await until(lambda: all(heard[name] for name in mine))
            with anyio.fail_after(30.0):
                before: list[int] = []
                while before != (now := [heard[name] for name in mine]):
                    before = now
                    await anyio.sleep(0.5)  # 25 times the intervals, in which nothing may happen
            for job_id in (waiting, busy):
                await harness.cancel(job_id)
                await harness.reach(job_id, State.CANCELLED)


async def _state_is(harness: DispatcherHarness, job_id: str, state: str) -> bool:
    return bool((await progress_file(harness, job_id))["state"] == state)


async def progress_file(harness: DispatcherHarness, job_id: str) -> dict[str, Any]:
    key = harness.bucket.key("results", job_id, "progress.json")
    with anyio.fail_after(10.0):
        while True:
            # It comes after the event; and while a file is replaced, this server gives half of it, or none.
            with contextlib.suppress(SaccadeError, ObjectMissing):
                found: dict[str, Any] = json.loads(await harness.bucket.get(key))
                return found
            await anyio.sleep(0.02)


async def until(holds: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return holds()

    await until_async(asked)


async def until_async(holds: Callable[[], Awaitable[bool]]) -> None:
    with anyio.fail_after(10.0):
        while not await holds():
            await anyio.sleep(0.02)
