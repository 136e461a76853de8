"""Results and recovery of a run on every executor: artifacts, checkpoints, unavailable servers."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.job import State
from contracts.limits import EVENT_BYTES, WORKER_HEARTBEAT_S
from contracts.manifest import Manifest
from tests.harness.runtime.executor_environment import (
    EXECUTORS,
    ExecutorHarness,
    ExecutorServers,
    open_harness,
    open_local_harness,
    serve,
)
from tests.harness.servers.embedded import EmbeddedS3, NatsServer, S3Server
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory) as servers:
        yield servers


@pytest.fixture(params=EXECUTORS)
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, servers: ExecutorServers
) -> AsyncIterator[ExecutorHarness]:
    async with open_harness(request.param, tmp_path / "data", servers) as harness:
        yield harness


async def test_artifacts_in_the_bucket_are_what_manifest_and_events_say(harness: ExecutorHarness) -> None:
    large = 17 * 1024 * 1024  # more than one part
    assignment, _ = await harness.play("save large.bin " + str(large), "save small.bin 256", state=State.SUCCEEDED)
    job = await harness.driver.job(assignment.job_id)
    assert job.manifest_key is not None
    manifest = Manifest.model_validate_json(await harness.driver.bucket.get(job.manifest_key))
    said = [
        e.data["artifact"] for e in await harness.driver.events(assignment.job_id) if e.type == "job.artifact_ready"
    ]
    assert [a.model_dump(mode="json") for a in manifest.artifacts] == said
    assert (manifest.run_id, manifest.workload, manifest.result) == (assignment.run_id, "scripted", job.result)
    for artifact, size in zip(manifest.artifacts, (large, 256), strict=True):
        body = await harness.driver.bucket.get(artifact.key)
        assert len(body) == artifact.bytes == size
        assert hashlib.sha256(body).hexdigest() == artifact.sha256 == manifest.result["notes"][artifact.name]


async def test_what_was_saved_can_be_fetched_again(harness: ExecutorHarness) -> None:
    steps = ("save frames/one.bin 512", "artifact frames/one.bin", "artifact frames/two.bin")
    assignment, _ = await harness.play(*steps, state=State.SUCCEEDED)
    job = await harness.driver.job(assignment.job_id)
    assert job.result is not None
    notes = job.result["notes"]
    assert notes["artifact frames/one.bin"] == notes["frames/one.bin"]
    assert notes["artifact frames/two.bin"] == "none"


async def test_inputs_are_local_files_with_the_name_and_bytes_of_the_upload(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    clip = await harness.driver.upload("Lap One.MP4", b"not really a video")
    assignment = await harness.driver.submit("read_input", inputs={"clip": [clip]})
    await executor.launch(assignment, WORKLOAD.compute)
    job = await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["notes"]["input"] == "Lap One.MP4  not really a video"  # no extension


async def test_progress_is_said_again_while_the_job_is_silent(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    assignment = await harness.driver.submit(
        "stage first", "progress 0.4 halfway 12 30", f"sleep {1.4 * WORKER_HEARTBEAT_S}"
    )
    await executor.launch(assignment, WORKLOAD.compute)
    await harness.driver.until(assignment.job_id, State.RUNNING)
    seen = {}
    while (await harness.driver.job(assignment.job_id)).state is State.RUNNING:
        if newest := await harness.driver.newest_progress(assignment.job_id):
            seen[newest[0]] = newest[1]
        await asyncio.sleep(0.1)
    halfway = [(at, data) for at, data in seen.items() if data.message == "halfway" and data.stage_fraction < 1]
    assert len(halfway) >= 2
    assert all(data.fraction == pytest.approx(0.1) and data.stage == "first" for _, data in halfway)
    assert {(data.frame, data.frame_count) for _, data in halfway} == {(12, 30)}
    gaps_s = [(b - a).total_seconds() for (a, _), (b, _) in itertools.pairwise(halfway)]
    assert min(gaps_s) > 0.5 * WORKER_HEARTBEAT_S, "said again only when the time has come"


async def test_a_killed_job_goes_on_from_its_checkpoint(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    first = await harness.driver.submit("kill_unless passed", "checkpoint passed", "save a.bin 256")
    status = await harness.ended(executor, await executor.launch(first, WORKLOAD.compute))
    assert status.failure == "lost"
    second = await harness.driver.replace_attempt(first)
    await executor.launch(second, WORKLOAD.compute)
    job = await harness.driver.until(first.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["notes"]["checkpoint passed"] == "here"
    assert job.run_id == second.run_id


async def test_a_run_that_died_after_its_manifest_is_not_done_again(harness: ExecutorHarness) -> None:
    assignment, _ = await harness.play("save a.bin 256", state=State.SUCCEEDED)
    done = await harness.driver.job(assignment.job_id)
    assert done.manifest_key is not None
    manifest = Manifest.model_validate_json(await harness.driver.bucket.get(done.manifest_key))
    # The same job, but for its success: another job's events with this one's manifest.
    executor = harness.executor()
    first = await harness.driver.submit("kill")
    await harness.ended(executor, await executor.launch(first, WORKLOAD.compute))
    key = harness.driver.bucket.key("results", first.job_id, "manifest.json")
    copy = manifest.model_copy(update={"job_id": first.job_id, "run_id": first.run_id})
    await harness.driver.bucket.put(key, copy.model_dump_json().encode())
    second = await harness.driver.replace_attempt(first)
    await executor.launch(second, WORKLOAD.compute)
    job = await harness.driver.until(first.job_id, State.SUCCEEDED)
    assert (job.result, job.manifest_key) == (manifest.result, key)


async def test_somebody_elses_manifest_is_not_believed(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    first = await harness.driver.submit("kill_unless passed", "save a.bin 256")
    await harness.ended(executor, await executor.launch(first, WORKLOAD.compute))
    key = harness.driver.bucket.key("results", first.job_id, "manifest.json")
    await harness.driver.bucket.put(key, b'{"job_id": "another"}')
    await executor.launch(await harness.driver.replace_attempt(first), WORKLOAD.compute)
    job = await harness.driver.until(first.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["steps_done"] == 2


async def test_an_input_that_is_gone_or_has_changed_is_the_users_failure(harness: ExecutorHarness) -> None:
    executor = harness.executor()
    clip = await harness.driver.upload("a.mp4", b"abc")
    gone = await harness.driver.submit(inputs={"clip": [clip.model_copy(update={"key": clip.key + ".gone"})]})
    changed = await harness.driver.submit(inputs={"clip": [clip.model_copy(update={"sha256": "0" * 64})]})
    for assignment, code in ((gone, "upload_bytes_missing"), (changed, "upload_checksum_mismatch")):
        await executor.launch(assignment, WORKLOAD.compute)
        job = await harness.driver.until(assignment.job_id, State.INTERRUPTED)
        assert job.error is not None
        assert (job.failure, job.error.code) == ("user", code)


async def test_a_bucket_that_is_away_for_a_while_costs_time_and_nothing_else(
    tmp_path: Path, nats_server: NatsServer, own_s3_server: EmbeddedS3
) -> None:
    async with open_local_harness(tmp_path / "data", nats_server, own_s3_server) as harness:
        clip = await harness.driver.upload("a.mp4", b"abc")
        own_s3_server.__exit__()
        executor = harness.executor()
        assignment = await harness.driver.submit("read_input", "save a.bin 512", inputs={"clip": [clip]})
        await executor.launch(assignment, WORKLOAD.compute)
        await harness.driver.until(assignment.job_id, State.RUNNING)
        await asyncio.sleep(1.0)
        assert (await harness.driver.job(assignment.job_id)).state is State.RUNNING
        own_s3_server.__enter__()
        job = await harness.driver.until(assignment.job_id, State.SUCCEEDED)
        assert len(await harness.driver.bucket.get(harness.driver.bucket.key("results", job.id, "a.bin"))) == 512


async def test_a_restart_of_the_bus_in_the_middle_loses_no_state_event(
    tmp_path: Path, nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with open_local_harness(tmp_path / "data", nats_server, s3_server) as harness:
        executor = harness.executor()
        saves = [f"save {number}.bin 256" for number in range(12)]
        script = ["stage first", *saves[:4], "sleep 1", *saves[4:8], "stage second", *saves[8:]]
        assignment = await harness.driver.submit(*script)
        await executor.launch(assignment, WORKLOAD.compute)
        await harness.driver.until_job(assignment.job_id, lambda job: job.state is State.RUNNING)
        nats_server.kill()
        await asyncio.sleep(1.5)
        nats_server.start()
        await harness.driver.until(assignment.job_id, State.SUCCEEDED)
        events = await harness.driver.events(assignment.job_id)
        names = [event.data["artifact"]["name"] for event in events if event.type == "job.artifact_ready"]
        assert names == [f"{number}.bin" for number in range(12)]
        assert [event.data["stage"] for event in events if event.type == "job.stage_completed"] == ["first", "second"]
        assert len({event.id for event in events}) == len(events)


async def test_a_run_leaves_its_log_and_no_files(harness: ExecutorHarness) -> None:
    assignment, _ = await harness.play("save a.bin 256", "crash", state=State.INTERRUPTED)
    folder = harness.folder / "runs" / assignment.run_id
    assert not (folder / "scratch").exists()
    log = harness.log_of(assignment)
    assert "secret detail" in log, "the traceback is in the log"
    assert harness.s3.settings.secret_access_key.get_secret_value() not in log
    assert not [path for path in folder.rglob("*") if b"test-secret" in path.read_bytes()]


async def test_a_result_is_measured_in_the_bytes_of_its_event(
    tmp_path: Path, nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with open_local_harness(tmp_path / "data", nats_server, s3_server) as harness:
        clip = await harness.driver.upload("a.mp4", ("ü" * (EVENT_BYTES // 2)).encode())
        assignment = await harness.driver.submit("read_input", inputs={"clip": [clip]})
        await harness.executor().launch(assignment, WORKLOAD.compute)
        job = await harness.driver.until(assignment.job_id, State.INTERRUPTED)
        assert (job.failure, job.error and job.error.code) == ("broken", "worker_broken")
        assert job.error
        assert "save it as an artifact" in job.error.message


async def test_a_run_of_a_workload_that_the_worker_does_not_know_says_so(
    tmp_path: Path, nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with open_local_harness(tmp_path / "data", nats_server, s3_server) as harness:
        assignment = await harness.driver.submit(workload="of_a_newer_server")
        await harness.executor().launch(assignment, WORKLOAD.compute)
        job = await harness.driver.until(assignment.job_id, State.INTERRUPTED)
        assert job.error
        assert job.error.code == "unknown_workload"
