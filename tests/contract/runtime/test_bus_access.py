"""Worker process over each kind of bus access: work, cancel, restart of the bus, revoked access."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contracts.assignment import Assignment
from contracts.job import State
from contracts.limits import WORKER_GRACE_S
from kit.settings import NatsSettings, S3Settings, as_environment, inherited_environment
from tests.harness.runtime.bus_access import BUS_ACCESS, BusConnector, open_bus_connector
from tests.harness.runtime.job_driver import WAIT_S, JobDriver
from tests.harness.servers.embedded import OperatorNats, S3Server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OperatorNats]:
    (tmp_path / "nats").mkdir()
    with OperatorNats(tmp_path / "nats") as server:
        yield server


@pytest.fixture(params=BUS_ACCESS)
async def connector(
    request: pytest.FixtureRequest, server: OperatorNats, s3_server: S3Server, tmp_path: Path
) -> AsyncIterator[BusConnector]:
    async with open_bus_connector(request.param, server, s3_server, tmp_path) as connector:
        yield connector


@pytest.fixture
def driver(connector: BusConnector) -> JobDriver:
    return connector.driver


class Worker:
    """Worker process as an executor starts it, with the environment of its bus access only."""

    def __init__(self, connector: BusConnector, s3: S3Settings, folder: Path) -> None:
        self._way, self._s3, self._folder = connector, s3, folder

    def environment(self, assignment: Assignment, lifetime_s: float) -> dict[str, str]:
        settings = self._way.settings(assignment, lifetime_s)
        if isinstance(settings, NatsSettings):
            bus = as_environment(settings, self._s3)
        else:
            assert settings.url is not None
            assert settings.token is not None
            # Where NATS is it cannot know.
            bus = as_environment(NatsSettings(url="nats://127.0.0.1:9"), self._s3)
            bus |= {"INGEST_URL": settings.url, "INGEST_TOKEN": settings.token.get_secret_value()}
        own = {"WORKER_CATALOG": "tests.workers", "WORKER_RUN_FOLDER": str(self._folder), "OMP_NUM_THREADS": "1"}
        return inherited_environment() | bus | own

    async def start(self, assignment: Assignment, lifetime_s: float = 600.0) -> asyncio.subprocess.Process:
        self._folder.mkdir(exist_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "modal_workers.runtime.worker_process"),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(assignment, lifetime_s),
            cwd=Path(__file__).parents[3],
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(assignment.model_dump_json().encode())
        process.stdin.close()
        return process

    async def ended(self, process: asyncio.subprocess.Process) -> tuple[int, str]:
        """Wait for its end; return exit code and log."""
        async with asyncio.timeout(WAIT_S):
            _, log = await process.communicate()
        assert process.returncode is not None
        return process.returncode, log.decode()


@pytest.fixture
def worker(connector: BusConnector, s3_server: S3Server, tmp_path: Path) -> Worker:
    return Worker(connector, s3_server.settings, tmp_path / "run")


async def test_a_job_is_done(connector: BusConnector, driver: JobDriver, worker: Worker) -> None:
    assignment = await driver.submit("stage first", "progress 0.5 half", "save a.bin 256", "stage second", "sleep 0.7")
    process = await worker.start(assignment)
    code, log = await worker.ended(process)
    assert code == 0, log
    assert await driver.types(assignment.job_id) == [
        "job.submitted",
        "job.starting",
        "job.started",
        "job.artifact_ready",
        "job.stage_completed",
        "job.stage_completed",
        "job.succeeded",
    ]
    assert await driver.newest_progress(assignment.job_id) is not None
    for secret in (connector.token(assignment).jwt[:40], "SUA"):
        assert secret not in log


async def test_of_two_workers_of_one_run_one_works(connector: BusConnector, driver: JobDriver, worker: Worker) -> None:
    assignment = await driver.submit("save a.bin 256", "sleep 0.5")
    both = [await worker.start(assignment) for _ in range(2)]
    codes = [(await worker.ended(process))[0] for process in both]
    assert codes == [0, 0]
    types = await driver.types(assignment.job_id)
    assert (types.count("job.started"), types.count("job.succeeded"), types.count("job.artifact_ready")) == (1, 1, 1)


async def test_a_cancel_is_heard(connector: BusConnector, driver: JobDriver, worker: Worker) -> None:
    assignment = await driver.submit("work 60")
    process = await worker.start(assignment)
    await driver.until(assignment.job_id, State.RUNNING)
    await driver.request_cancel(assignment.job_id)
    code, log = await worker.ended(process)
    assert code == 10, log
    assert (await driver.types(assignment.job_id))[-1] == "job.interrupted"


async def test_a_run_that_was_given_up_ends(connector: BusConnector, driver: JobDriver, worker: Worker) -> None:
    assignment = await driver.submit("work 60")
    process = await worker.start(assignment)
    await driver.until(assignment.job_id, State.RUNNING)
    await driver.replace_attempt(assignment)
    code, log = await worker.ended(process)
    assert code == 0, log
    assert (await driver.job(assignment.job_id)).state is State.STARTING


async def test_a_stop_is_said_before_the_grace_is_over(
    connector: BusConnector, driver: JobDriver, worker: Worker
) -> None:
    assignment = await driver.submit("work 60")
    process = await worker.start(assignment)
    await driver.until(assignment.job_id, State.RUNNING)
    began = asyncio.get_running_loop().time()
    process.terminate()
    code, log = await worker.ended(process)
    assert code == 10, log
    assert asyncio.get_running_loop().time() - began < WORKER_GRACE_S + 5
    job = await driver.job(assignment.job_id)
    assert (job.state, job.failure) == (State.INTERRUPTED, "preempted")


async def test_a_restart_of_the_bus_loses_no_state_event(
    connector: BusConnector, driver: JobDriver, worker: Worker, server: OperatorNats
) -> None:
    saves = [f"save {number}.bin 256" for number in range(8)]
    assignment = await driver.submit("stage first", *saves[:3], "sleep 1", *saves[3:6], "stage second", *saves[6:])
    process = await worker.start(assignment)
    await driver.until(assignment.job_id, State.RUNNING)
    server.kill()
    await asyncio.sleep(1.0)
    server.start()
    code, log = await worker.ended(process)
    assert code == 0, log
    events = await driver.events(assignment.job_id)
    names = [event.data["artifact"]["name"] for event in events if event.type == "job.artifact_ready"]
    assert names == [f"{number}.bin" for number in range(8)]
    assert events[-1].type == "job.succeeded"


@pytest.mark.parametrize("connector", ["credentials", "ingest"], indirect=True)
async def test_a_worker_whose_token_expires_ends_by_itself(
    connector: BusConnector, driver: JobDriver, worker: Worker
) -> None:
    assignment = await driver.submit("work 60")
    process = await worker.start(assignment, lifetime_s=6.0)
    await driver.until(assignment.job_id, State.RUNNING)
    code, log = await worker.ended(process)
    assert code == 1, "nobody could be told"
    assert "the run is cut off" in log or "expired" in log.lower()
    assert (await driver.job(assignment.job_id)).state is State.RUNNING, "the dispatcher finds out by the silence"


@pytest.mark.parametrize("connector", ["credentials", "ingest"], indirect=True)
async def test_a_worker_whose_token_is_over_does_not_begin(
    connector: BusConnector, driver: JobDriver, worker: Worker
) -> None:
    assignment = await driver.submit("work 60")
    code, log = await worker.ended(await worker.start(assignment, lifetime_s=-1.0))
    assert code == 1
    assert "could not start" in log
    assert (await driver.job(assignment.job_id)).state is State.STARTING
