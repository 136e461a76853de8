"""An executor, its surroundings on real servers, and scripted jobs in it: what the executor's suites stand on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from contracts.assignment import Assignment
from contracts.job import State
from services.dispatcher.executor import CallState, CallStatus, Executor
from services.dispatcher.local_executor import LocalExecutor
from services.kit.settings import inherited_environment
from tests.servers import EmbeddedNats, EmbeddedS3, NatsServer, S3Server
from tests.workers.desk import WAIT_S, Desk, open_desk
from tests.workers.scripted.spec import WORKLOAD

#: Every executor there is; each suite runs on each.
EXECUTORS = ["local"]


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


@contextmanager
def serve(folders: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, S3Server]]:
    """Start servers for a whole module: its jobs do not meet."""
    with ExitStack() as stack:
        nats = stack.enter_context(EmbeddedNats(folders.mktemp("nats")))
        yield nats, stack.enter_context(EmbeddedS3(folders.mktemp("s3")))


@asynccontextmanager
async def open_house(kind: str, folder: Path, nats: NatsServer, s3: S3Server) -> AsyncIterator[House]:
    async with open_desk(nats.settings, s3.settings) as desk:
        house = House(kind, folder, nats, s3, desk)
        yield house
        for executor in house.made:
            await executor.close()


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
