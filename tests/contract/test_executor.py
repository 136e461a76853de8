"""What every executor promises, on real servers and real processes. A new executor is one more parameter."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from contracts.assignment import Assignment
from contracts.ids import new_id
from contracts.job import State
from contracts.limits import WORKER_BEAT_S
from contracts.manifest import Manifest
from contracts.workload import Compute
from services.dispatcher.executor import CallState, CallStatus, Executor, LaunchFailed
from services.dispatcher.local_executor import LocalExecutor
from services.kit.settings import inherited_environment
from tests.servers import EmbeddedNats, EmbeddedS3, NatsServer, S3Server
from tests.workers.desk import WAIT_S, Desk, open_desk
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio


@dataclass
class House:
    """An executor's surroundings; ``executor`` may be made again over the same state."""

    kind: str
    folder: Path
    nats: NatsServer
    s3: S3Server
    desk: Desk
    made: list[Executor] = field(default_factory=list)

    def executor(self) -> Executor:
        assert self.kind == "local"
        environment = inherited_environment() | {"WORKER_CATALOG": "tests.workers"}
        self.made.append(
            LocalExecutor(self.folder, self.nats.settings, self.s3.settings, slots=2, environment=environment)
        )
        return self.made[-1]

    async def ended(self, executor: Executor, call_id: str) -> CallStatus:
        end = time.monotonic() + WAIT_S
        while (status := await executor.poll(call_id)).state is CallState.RUNNING:
            assert time.monotonic() < end, "the worker did not end"
            await asyncio.sleep(0.05)
        return status

    async def play(self, *script: str, state: State) -> tuple[Assignment, CallStatus]:
        """Run a script to its end and to a state of the job."""
        executor = self.executor()
        assignment = await self.desk.submit(*script)
        call_id = await executor.launch(assignment, WORKLOAD.compute)
        status = await self.ended(executor, call_id)
        assert (await self.desk.job(assignment.job_id)).state is state, await self.desk.types(assignment.job_id)
        return assignment, status


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, S3Server]]:
    with ExitStack() as stack:
        nats = stack.enter_context(EmbeddedNats(tmp_path_factory.mktemp("nats")))
        yield nats, stack.enter_context(EmbeddedS3(tmp_path_factory.mktemp("s3")))


@asynccontextmanager
async def open_house(kind: str, folder: Path, nats: NatsServer, s3: S3Server) -> AsyncIterator[House]:
    async with open_desk(nats.settings, s3.settings) as desk:
        house = House(kind, folder, nats, s3, desk)
        yield house
        for executor in house.made:
            await executor.close()


@pytest.fixture(params=["local"])
async def house(
    request: pytest.FixtureRequest, tmp_path: Path, servers: tuple[NatsServer, S3Server]
) -> AsyncIterator[House]:
    async with open_house(request.param, tmp_path / "data", *servers) as house:
        yield house


def of_run(assignment: Assignment) -> list[psutil.Process]:
    """Find every process of a run by what it inherited."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WORKER_RUN_FOLDER", "").endswith(assignment.run_id):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


async def test_a_job_runs_and_everything_it_says_is_in_order(house: House) -> None:
    assignment, status = await house.play(
        "stage first", "progress 0.5", "save a.bin 1024", "stage second", "save b/c.bin 2560", state=State.SUCCEEDED
    )
    assert status == CallStatus(CallState.ENDED, 0, status.detail, None)
    assert await house.desk.types(assignment.job_id) == [
        "job.submitted",
        "job.starting",
        "job.started",
        "job.artifact_ready",
        "job.stage_completed",
        "job.artifact_ready",
        "job.stage_completed",
        "job.succeeded",
    ]
    job = await house.desk.job(assignment.job_id)
    assert job.result is not None
    assert job.result["steps_done"] == 5
    cost = job.costs[assignment.run_id]
    assert cost.seconds > 0
    assert cost.usd == pytest.approx(cost.seconds * assignment.usd_per_s, abs=1e-5)


async def test_artifacts_in_the_bucket_are_what_manifest_and_events_say(house: House) -> None:
    large = 17 * 1024 * 1024  # more than one part
    assignment, _ = await house.play("save large.bin " + str(large), "save small.bin 256", state=State.SUCCEEDED)
    job = await house.desk.job(assignment.job_id)
    assert job.manifest_key is not None
    manifest = Manifest.model_validate_json(await house.desk.bucket.get(job.manifest_key))
    said = [e.data["artifact"] for e in await house.desk.events(assignment.job_id) if e.type == "job.artifact_ready"]
    assert [a.model_dump(mode="json") for a in manifest.artifacts] == said
    assert (manifest.run_id, manifest.workload, manifest.result) == (assignment.run_id, "scripted", job.result)
    for artifact, size in zip(manifest.artifacts, (large, 256), strict=True):
        body = await house.desk.bucket.get(artifact.key)
        assert len(body) == artifact.bytes == size
        assert hashlib.sha256(body).hexdigest() == artifact.sha256 == manifest.result["notes"][artifact.name]


async def test_inputs_are_local_files_with_the_name_and_bytes_of_the_upload(house: House) -> None:
    executor = house.executor()
    clip = await house.desk.upload("Lap One.MP4", b"not really a video")
    assignment = await house.desk.submit("read_input", inputs={"clip": [clip]})
    await executor.launch(assignment, WORKLOAD.compute)
    job = await house.desk.until(assignment.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["notes"]["input"] == "Lap One.MP4 .mp4 not really a video"


@pytest.mark.parametrize(
    ("script", "failure", "code"),
    [
        (["fail clip_static"], "user", "clip_static"),
        (["crash"], "broken", "worker_broken"),
        (["no_such_step"], "broken", "worker_broken"),
        (["hoard"], "out_of_memory", "out_of_memory"),
    ],
)
async def test_a_failure_is_said_once_with_its_class(house: House, script: list[str], failure: str, code: str) -> None:
    assignment, status = await house.play(*script, state=State.INTERRUPTED)
    job = await house.desk.job(assignment.job_id)
    assert job.error is not None
    assert (job.failure, job.error.code) == (failure, code)
    assert "and more" not in job.error.message
    assert "Traceback" not in job.error.message
    assert job.costs[assignment.run_id].seconds > 0
    assert (await house.desk.types(assignment.job_id)).count("job.interrupted") == 1
    assert status.failure is None, "the events have said it"


@pytest.mark.parametrize(("step", "exit_code"), [("exit 3", 3), ("kill", 137)])
async def test_a_worker_that_dies_without_a_word_is_lost(house: House, step: str, exit_code: int) -> None:
    assignment, status = await house.play("stage first", "children", step, state=State.RUNNING)
    assert (status.state, status.exit_code, status.failure) == (CallState.ENDED, exit_code, "lost")
    assert not of_run(assignment), "its children went with it"


async def test_a_family_that_takes_too_much_memory_is_ended_as_such(house: House) -> None:
    assignment, status = await house.play("hoard_in_children", "sleep 60", state=State.RUNNING)
    assert status.failure == "out_of_memory"
    assert not of_run(assignment)


async def test_cancel_in_the_middle_stops_the_job_and_the_job_says_so(house: House) -> None:
    executor = house.executor()
    for _ in range(5):  # on a machine that is busy enough the worker is killed before it could say so
        assignment = await house.desk.submit("children", "stage first", "work 60")
        call_id = await executor.launch(assignment, WORKLOAD.compute)
        await house.desk.until(assignment.job_id, State.RUNNING)
        await house.desk.until_progress(assignment.job_id)
        await executor.cancel(call_id)
        assert not of_run(assignment)
        status = await executor.poll(call_id)
        assert status.state is CallState.ENDED
        await executor.cancel(call_id)  # again: nothing happens
        if status.exit_code != 137:
            break
    job = await house.desk.job(assignment.job_id)
    assert (job.state, job.failure) == (State.INTERRUPTED, "preempted")


@pytest.mark.parametrize("steps", [["sleep 60"], ["children", "ignore_signals", "sleep 60"]])
async def test_a_job_that_does_not_listen_is_gone_too_with_all_its_children(house: House, steps: list[str]) -> None:
    executor = house.executor()
    assignment = await house.desk.submit(*steps[:-1], "keep reached here", steps[-1])
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await house.desk.until(assignment.job_id, State.RUNNING)
    end = time.monotonic() + WAIT_S
    key = house.desk.bucket.key("scratch", assignment.job_id, "checkpoints", "reached")
    while not await house.desk.bucket.list_keys(key):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert of_run(assignment)
    await executor.cancel(call_id)
    assert not of_run(assignment)
    assert (await executor.poll(call_id)).state is CallState.ENDED


async def test_a_cancel_before_the_claim_leaves_nothing_behind(house: House) -> None:
    executor = house.executor()
    assignment = await house.desk.submit("save a.bin 256")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await executor.cancel(call_id)
    assert not of_run(assignment)
    assert (await executor.poll(call_id)).state is CallState.ENDED
    assert await house.desk.types(assignment.job_id) == ["job.submitted", "job.starting"]


async def test_a_worker_whose_job_was_cancelled_meanwhile_does_nothing(house: House) -> None:
    executor = house.executor()
    assignment = await house.desk.submit("save a.bin 256")
    await house.desk.ask_for_cancel(assignment.job_id)
    status = await house.ended(executor, await executor.launch(assignment, WORKLOAD.compute))
    assert (status.exit_code, status.failure) == (0, None)
    assert await house.desk.types(assignment.job_id) == ["job.submitted", "job.starting", "job.cancel_requested"]


async def test_a_running_worker_hears_by_itself_that_its_job_is_to_end(house: House) -> None:
    executor = house.executor()
    assignment = await house.desk.submit("work 60")
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await house.desk.until(assignment.job_id, State.RUNNING)
    await house.desk.ask_for_cancel(assignment.job_id)
    await house.ended(executor, call_id)
    assert (await house.desk.job(assignment.job_id)).state is State.INTERRUPTED


async def test_a_run_that_lost_its_job_writes_nothing_more(house: House) -> None:
    executor = house.executor()
    first = await house.desk.submit("sleep 0.6", "save late.bin 256")
    call_id = await executor.launch(first, WORKLOAD.compute)
    await house.desk.until(first.job_id, State.RUNNING)
    second = await house.desk.take_away(first)
    status = await house.ended(executor, call_id)
    assert (status.exit_code, status.failure) == (0, None)
    assert (await house.desk.types(first.job_id))[-1] == "job.starting"
    assert (await house.desk.job(first.job_id)).run_id == second.run_id
    assert not await house.desk.bucket.list_keys(house.desk.bucket.key("results", first.job_id))


async def test_an_attempt_that_is_launched_twice_runs_once(house: House) -> None:
    one, other = house.executor(), house.executor()
    assignment = await house.desk.submit("work 0.2", "save a.bin 256")
    calls = await asyncio.gather(
        one.launch(assignment, WORKLOAD.compute),
        other.launch(assignment, WORKLOAD.compute),
        one.launch(assignment, WORKLOAD.compute),
    )
    await house.desk.until(assignment.job_id, State.SUCCEEDED)
    for executor, call_id in zip((one, other, one), calls, strict=True):
        assert (await house.ended(executor, call_id)).state is CallState.ENDED
    types = await house.desk.types(assignment.job_id)
    assert types.count("job.started") == types.count("job.artifact_ready") == types.count("job.succeeded") == 1


async def test_a_new_dispatcher_finds_polls_and_cancels_the_old_ones_workers(house: House) -> None:
    old = house.executor()
    short = await house.desk.submit("work 1")
    long = await house.desk.submit("children", "work 60")
    calls = [await old.launch(assignment, WORKLOAD.compute) for assignment in (short, long)]
    await old.close()
    new = house.executor()
    assert [await new.find(assignment.run_id) for assignment in (short, long)] == calls
    assert (await new.poll(calls[1])).state is CallState.RUNNING
    status = await house.ended(new, calls[0])
    assert status.failure is None
    await house.desk.until(short.job_id, State.SUCCEEDED)
    await house.desk.until(long.job_id, State.RUNNING)
    await new.cancel(calls[1])
    assert not of_run(long)
    assert await new.find(new_id("run")) is None


@pytest.mark.parametrize("call_id", ["", "../../etc", "run_0198c0de-0000-7000-8000-000000000000"])
async def test_a_call_that_nobody_knows_has_ended(house: House, call_id: str) -> None:
    executor = house.executor()
    status = await executor.poll(call_id)
    assert (status.state, status.failure) == (CallState.ENDED, "lost")
    await executor.cancel(call_id)
    assert await executor.find(call_id) is None


async def test_progress_is_said_again_while_the_job_is_silent(house: House) -> None:
    executor = house.executor()
    assignment = await house.desk.submit("stage first", "progress 0.4 halfway", f"sleep {1.4 * WORKER_BEAT_S}")
    await executor.launch(assignment, WORKLOAD.compute)
    await house.desk.until(assignment.job_id, State.RUNNING)
    seen = {}
    while (await house.desk.job(assignment.job_id)).state is State.RUNNING:
        if newest := await house.desk.newest_progress(assignment.job_id):
            seen[newest[0]] = newest[1]
        await asyncio.sleep(0.1)
    halfway = [(at, data) for at, data in seen.items() if data.message == "halfway" and data.stage_fraction < 1]
    assert len(halfway) >= 2
    assert all(data.fraction == pytest.approx(0.1) and data.stage == "first" for _, data in halfway)
    gaps_s = [(b - a).total_seconds() for (a, _), (b, _) in itertools.pairwise(halfway)]
    assert min(gaps_s) > 0.5 * WORKER_BEAT_S, "said again only when the time has come"


async def test_a_killed_job_goes_on_from_its_checkpoint(house: House) -> None:
    executor = house.executor()
    first = await house.desk.submit("kill_unless passed", "checkpoint passed", "save a.bin 256")
    status = await house.ended(executor, await executor.launch(first, WORKLOAD.compute))
    assert status.failure == "lost"
    second = await house.desk.take_away(first)
    await executor.launch(second, WORKLOAD.compute)
    job = await house.desk.until(first.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["notes"]["checkpoint passed"] == "here"
    assert job.run_id == second.run_id


async def test_a_run_that_died_after_its_manifest_is_not_done_again(house: House) -> None:
    assignment, _ = await house.play("save a.bin 256", state=State.SUCCEEDED)
    done = await house.desk.job(assignment.job_id)
    assert done.manifest_key is not None
    manifest = Manifest.model_validate_json(await house.desk.bucket.get(done.manifest_key))
    # The same job, but for its success: another job's events with this one's manifest.
    executor = house.executor()
    first = await house.desk.submit("kill")
    await house.ended(executor, await executor.launch(first, WORKLOAD.compute))
    key = house.desk.bucket.key("results", first.job_id, "manifest.json")
    copy = manifest.model_copy(update={"job_id": first.job_id, "run_id": first.run_id})
    await house.desk.bucket.put(key, copy.model_dump_json().encode())
    second = await house.desk.take_away(first)
    await executor.launch(second, WORKLOAD.compute)
    job = await house.desk.until(first.job_id, State.SUCCEEDED)
    assert (job.result, job.manifest_key) == (manifest.result, key)


async def test_somebody_elses_manifest_is_not_believed(house: House) -> None:
    executor = house.executor()
    first = await house.desk.submit("kill_unless passed", "save a.bin 256")
    await house.ended(executor, await executor.launch(first, WORKLOAD.compute))
    key = house.desk.bucket.key("results", first.job_id, "manifest.json")
    await house.desk.bucket.put(key, b'{"job_id": "another"}')
    await executor.launch(await house.desk.take_away(first), WORKLOAD.compute)
    job = await house.desk.until(first.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["steps_done"] == 2


async def test_an_input_that_is_gone_or_has_changed_is_the_users_failure(house: House) -> None:
    executor = house.executor()
    clip = await house.desk.upload("a.mp4", b"abc")
    gone = await house.desk.submit(inputs={"clip": [clip.model_copy(update={"key": clip.key + ".gone"})]})
    changed = await house.desk.submit(inputs={"clip": [clip.model_copy(update={"sha256": "0" * 64})]})
    for assignment, code in ((gone, "upload_bytes_missing"), (changed, "upload_checksum_mismatch")):
        await executor.launch(assignment, WORKLOAD.compute)
        job = await house.desk.until(assignment.job_id, State.INTERRUPTED)
        assert job.error is not None
        assert (job.failure, job.error.code) == ("user", code)


async def test_a_bucket_that_is_away_for_a_while_costs_time_and_nothing_else(
    tmp_path: Path, nats_server: NatsServer, s3_server: S3Server
) -> None:
    assert isinstance(s3_server, EmbeddedS3)
    async with open_house("local", tmp_path / "data", nats_server, s3_server) as house:
        clip = await house.desk.upload("a.mp4", b"abc")
        s3_server.__exit__()
        executor = house.executor()
        assignment = await house.desk.submit("read_input", "save a.bin 512", inputs={"clip": [clip]})
        await executor.launch(assignment, WORKLOAD.compute)
        await house.desk.until(assignment.job_id, State.RUNNING)
        await asyncio.sleep(1.0)
        assert (await house.desk.job(assignment.job_id)).state is State.RUNNING
        s3_server.__enter__()
        job = await house.desk.until(assignment.job_id, State.SUCCEEDED)
        assert len(await house.desk.bucket.get(house.desk.bucket.key("results", job.id, "a.bin"))) == 512


async def test_a_restart_of_the_bus_in_the_middle_loses_no_state_event(
    tmp_path: Path, nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with open_house("local", tmp_path / "data", nats_server, s3_server) as house:
        executor = house.executor()
        saves = [f"save {number}.bin 256" for number in range(12)]
        script = ["stage first", *saves[:4], "sleep 1", *saves[4:8], "stage second", *saves[8:]]
        assignment = await house.desk.submit(*script)
        await executor.launch(assignment, WORKLOAD.compute)
        await house.desk.until_job(assignment.job_id, lambda job: job.state is State.RUNNING)
        nats_server.kill()
        await asyncio.sleep(1.5)
        nats_server.start()
        await house.desk.until(assignment.job_id, State.SUCCEEDED)
        events = await house.desk.events(assignment.job_id)
        names = [event.data["artifact"]["name"] for event in events if event.type == "job.artifact_ready"]
        assert names == [f"{number}.bin" for number in range(12)]
        assert [event.data["stage"] for event in events if event.type == "job.stage_completed"] == ["first", "second"]
        assert len({event.id for event in events}) == len(events)


async def test_children_that_a_job_leaves_running_end_with_it(house: House) -> None:
    assignment, _ = await house.play("children", state=State.SUCCEEDED)
    assert not of_run(assignment)


async def test_a_run_leaves_its_log_and_no_files(house: House) -> None:
    assignment, _ = await house.play("save a.bin 256", "crash", state=State.INTERRUPTED)
    folder = house.folder / "runs" / assignment.run_id
    assert not (folder / "scratch").exists()
    log = (folder / "worker.log").read_text()
    assert "secret detail" in log, "the traceback is in the log"
    assert house.s3.settings.secret_access_key.get_secret_value() not in log
    assert not [path for path in folder.rglob("*") if b"test-secret" in path.read_bytes()]


class TestLocalDisk:
    """What only an executor on a disk of its own can meet."""

    async def test_a_worker_that_shouts_does_not_fill_the_disk(self, house: House) -> None:
        executor = house.executor()
        assignment = await house.desk.submit("shout 12", "work 2", "shout 1")
        await executor.launch(assignment, WORKLOAD.compute)
        await house.desk.until(assignment.job_id, State.SUCCEEDED)
        log = house.folder / "runs" / assignment.run_id / "worker.log"
        assert 0 < log.stat().st_size < 6 * 1024 * 1024

    async def test_folders_of_runs_that_ended_long_ago_are_removed(self, house: House) -> None:
        executor = house.executor()
        old = await house.desk.submit("work 60")
        alive = await house.desk.submit("work 60")
        for assignment in (old, alive):
            await executor.launch(assignment, WORKLOAD.compute)
        await executor.cancel(old.run_id)
        assert (await executor.poll(old.run_id)).state is CallState.ENDED
        folders = [house.folder / "runs" / assignment.run_id for assignment in (old, alive)]
        for folder in folders:
            os.utime(folder, (1.0, 1.0))
        await executor.launch(await house.desk.submit(), WORKLOAD.compute)
        assert [folder.exists() for folder in folders] == [False, True], "a living worker keeps its folder"
        await executor.cancel(alive.run_id)

    async def test_a_full_disk_is_a_clear_refusal(self, house: House) -> None:
        executor = house.executor()
        assignment = await house.desk.submit()
        folder = house.folder / "runs" / assignment.run_id
        folder.mkdir(parents=True)
        (folder / "assignment.json").symlink_to("/dev/full")
        with pytest.raises(LaunchFailed, match="is full: free some space"):
            await executor.launch(assignment, Compute())

    async def test_a_data_directory_that_cannot_be_written_to_is_a_clear_refusal(self, house: House) -> None:
        house.folder = Path("/proc/self/saccade")
        with pytest.raises(LaunchFailed, match="data directory"):
            await house.executor().launch(await house.desk.submit(), Compute())
