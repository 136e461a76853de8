"""An executor on real servers, and scripted jobs that it runs: the base of the executors' test suites.

Modal is the stand-in of tests/modal_loopback, dialled by Modal's own client; the rest is as real as for the local one.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from contracts.assignment import Assignment
from contracts.job import State
from contracts.workload import Compute
from kit.settings import NatsSettings, S3Settings, as_environment, inherited_environment
from modal_workers.deployment import CACHE, SECRET
from services.dispatcher.executors.executor import CallState, CallStatus, Executor
from services.dispatcher.executors.local_executor import LocalExecutor
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from services.dispatcher.executors.run_access import RunAccess
from services.dispatcher.settings import ModalSettings
from services.gateway.telemetry.consumer_requests import TelemetryConsumerRequests
from tests.harness.runtime.job_driver import WAIT_S, JobDriver, open_job_driver
from tests.harness.servers.embedded import EmbeddedS3, NatsServer, OperatorNats, S3Server
from tests.modal_loopback import Loopback, dialled, running
from tests.workers.scripted.spec import WORKLOAD

#: Every executor there is; each suite runs on each.
EXECUTORS = ["local", "modal"]
#: How a session's worker reaches NATS: as one of ours, or with credentials of its run alone.
SESSION_BUS_ACCESS = ["trusted", "credentials"]
#: Workers that are deployed on Modal.
DEPLOYED = ["scripted", "laddered", "hasty"]


@dataclass(frozen=True)
class ExecutorServers:
    """Servers that all tests of a module share; jobs are isolated by their ids."""

    nats: OperatorNats
    s3: EmbeddedS3
    loopback: Loopback

    def access(self) -> RunAccess:
        """Return the bus access of workers: NATS, with a token for each run."""
        return RunAccess(self.nats.tokens, "nats", self.nats.url)

    def modal_settings(self, **changes: object) -> ModalSettings:
        given = {"worker_bus": "nats", "worker_bus_url": self.nats.url, "poll_s": 0.0}
        return ModalSettings(worker_seed_file=self.nats.keys / "workers.seed", **(given | changes))


def bucket_secret(s3: S3Settings) -> dict[str, str]:
    """Write the settings of a bucket as the secret that workers on Modal have."""
    return {
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "S3_BUCKET": s3.bucket,
        "S3_ACCESS_KEY_ID": s3.access_key_id,
        "S3_SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
    }


def deploy(loopback: Loopback, modules: Sequence[str]) -> None:
    """Deploy workers with Modal's own client; test_modal_deploy.py does it with the command, in a process each."""
    with dialled(loopback):
        for module in modules:
            sys.modules.pop(module, None)  # an app is deployed once in its life: its objects keep their ids
            importlib.import_module(module).app.deploy()


@dataclass
class ExecutorHarness:
    """An executor and its servers; ``executor`` may be called again over the same state."""

    kind: str
    folder: Path
    nats: NatsServer
    s3: S3Server
    driver: JobDriver
    surroundings: ExecutorServers | None = None
    #: The first executor on Modal; others share its client.
    modal: ModalExecutor | None = None
    made: list[Executor] = field(default_factory=list)

    def executor(self) -> Executor:
        if self.modal is not None:
            self.made.append(
                ModalExecutor(self.modal.client, self.modal.settings, self.driver.bucket, self.modal.access)
            )
            return self.made[-1]
        environment = inherited_environment() | {"WORKER_CATALOG": "tests.workers,tests.session_workers"}
        if self.cache.is_dir():
            environment["WORKER_CACHE_FOLDER"] = str(self.cache)
        if self.kind == "credentials":
            assert isinstance(self.nats, OperatorNats)
            self.made.append(CredentialExecutor(self.folder, self.nats, self.s3.settings, environment))
            return self.made[-1]
        self.made.append(
            LocalExecutor(self.folder, self.nats.settings, self.s3.settings, slots=2, environment=environment)
        )
        return self.made[-1]

    @property
    def cache(self) -> Path:
        """Folder of the workers' cache; on Modal, its committed state."""
        if self.surroundings is not None and self.kind == "modal":
            return self.surroundings.loopback.volume(CACHE.name)
        return self.folder / "cache"

    def log_of(self, assignment: Assignment) -> str:
        """Return the log of a run; on Modal, the log of all containers."""
        if self.surroundings is not None and self.kind == "modal":
            return self.surroundings.loopback.log()
        return (self.folder / "runs" / assignment.run_id / "worker.log").read_text()

    async def until_cached(self, job_id: str, entries: int) -> None:
        """Wait until a job has so many entries in the cache: on Modal a container commits them after its call's end."""
        end = time.monotonic() + WAIT_S
        while len(list((self.cache / job_id).glob("[0-9a-f]*"))) != entries:
            assert time.monotonic() < end, "the cache has not got it"
            await asyncio.sleep(0.05)

    async def ended(self, executor: Executor, call_id: str) -> CallStatus:
        end = time.monotonic() + WAIT_S
        while (status := await executor.poll(call_id)).state is CallState.RUNNING:
            assert time.monotonic() < end, "the worker did not end"
            # Each look at a call on Modal is a request, which the stand-in answers in this process.
            await asyncio.sleep(0.2 if self.kind == "modal" else 0.05)
        return status

    async def play(self, *script: str, state: State) -> tuple[Assignment, CallStatus]:
        """Run a script to its end and to a state of the job."""
        executor = self.executor()
        assignment = await self.driver.submit(*script)
        call_id = await executor.launch(assignment, WORKLOAD.compute)
        status = await self.ended(executor, call_id)
        assert (await self.driver.job(assignment.job_id)).state is state, await self.driver.types(assignment.job_id)
        return assignment, status


@contextmanager
def serve(
    folders: pytest.TempPathFactory, modules: Sequence[str] = tuple(f"tests.workers.{name}.app" for name in DEPLOYED)
) -> Iterator[ExecutorServers]:
    """Start servers and deploy; see at the end that Modal's client asked for nothing that the stand-in has not."""
    with ExitStack() as stack:
        nats = stack.enter_context(OperatorNats(folders.mktemp("nats")))
        s3 = stack.enter_context(EmbeddedS3(folders.mktemp("s3")))
        loopback = stack.enter_context(running(folders.mktemp("m")))
        loopback.secrets[SECRET] = bucket_secret(s3.settings)
        deploy(loopback, modules)
        yield ExecutorServers(nats, s3, loopback)
        assert loopback.unimplemented == set()


@asynccontextmanager
async def open_harness(kind: str, folder: Path, servers: ExecutorServers) -> AsyncIterator[ExecutorHarness]:
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(open_job_driver(servers.nats.settings, servers.s3.settings))
        harness = ExecutorHarness(kind, folder, servers.nats, servers.s3, driver, servers)
        if kind == "modal":
            stack.enter_context(dialled(servers.loopback))
            opening = open_modal_executor(servers.modal_settings(), driver.bucket, servers.access())
            harness.modal = await stack.enter_async_context(opening)
        else:
            harness.cache.mkdir(parents=True)
        yield harness
        for executor in harness.made:
            await executor.close()


class CredentialExecutor(LocalExecutor):
    """A local executor whose workers reach NATS as those on Modal do: with a token of their run."""

    def __init__(self, folder: Path, nats: OperatorNats, s3: S3Settings, environment: Mapping[str, str]) -> None:
        super().__init__(folder, nats.settings, s3, slots=2, environment=environment)
        self._access = RunAccess(nats.tokens, "nats", nats.url)
        self._s3 = s3

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        given = self._access.of(assignment, 600.0)
        nats = NatsSettings(url=given.url, credentials=given.secret, inbox_prefix=given.inbox_prefix)
        ours = {name for name in self._environment if name.startswith("NATS_")}
        self._environment = {name: value for name, value in self._environment.items() if name not in ours}
        self._environment |= as_environment(nats, self._s3)
        return await super().launch(assignment, compute)


@asynccontextmanager
async def open_credential_harness(folder: Path, nats: OperatorNats, s3: S3Server) -> AsyncIterator[ExecutorHarness]:
    """Open a harness whose workers have credentials of their run alone, and a gateway's answers to what they ask."""
    async with open_job_driver(nats.settings, s3.settings) as driver:
        await TelemetryConsumerRequests(driver.store.client).start()
        harness = ExecutorHarness("credentials", folder, nats, s3, driver)
        yield harness
        for executor in harness.made:
            await executor.close()


@asynccontextmanager
async def open_local_harness(folder: Path, nats: NatsServer, s3: S3Server) -> AsyncIterator[ExecutorHarness]:
    """Open a harness on servers of the test's own, which it may kill."""
    async with open_job_driver(nats.settings, s3.settings) as driver:
        harness = ExecutorHarness("local", folder, nats, s3, driver)
        yield harness
        for executor in harness.made:
            await executor.close()


def processes_of_run(assignment: Assignment) -> list[psutil.Process]:
    """Return every process of a run, by the run folder in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WORKER_RUN_FOLDER", "").endswith(assignment.run_id):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return [process for process in found if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
