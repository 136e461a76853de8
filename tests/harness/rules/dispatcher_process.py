"""A dispatcher in a process of its own, whose jobs wait: ``python -m tests.harness.rules.dispatcher_process``."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from contracts.workload import Workload
from kit.bucket import open_bucket
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings, as_environment
from services.dispatcher.app import Dispatcher
from services.dispatcher.settings import SnapshotSettings
from tests.harness.dispatch.dispatcher import archive_in, settings
from tests.harness.dispatch.scripted_executor import Script, ScriptedExecutor, Worker
from tests.harness.rules.rule_nodes import WORKLOADS

ROOT = Path(__file__).parents[3]
#: So few that most starts of a test begin with a snapshot.
_SNAPSHOT_EVENTS = 25


class DispatcherProcess:
    """Starts the process, kills it, and starts it again."""

    def __init__(
        self, nats: NatsSettings, s3: S3Settings, log: Path, *, module: str = __name__, **environment: str
    ) -> None:
        self._log, self._module = log, module
        self._environment = as_environment(nats, s3) | environment
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DispatcherProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def start(self) -> None:
        command = [sys.executable, "-m", self._module]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, env=self._environment, cwd=ROOT, stdout=log, stderr=log)

    def ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=30)


async def _waits(worker: Worker) -> None:
    await worker.claim()
    await worker.asked_to_stop.wait()


async def dispatch(
    workloads: Iterable[Workload],
    stop: asyncio.Event,
    script: Script = _waits,
    *,
    executor: type[ScriptedExecutor] = ScriptedExecutor,
    snapshot_events: int = _SNAPSHOT_EVENTS,
    **changes: Any,
) -> None:
    """Dispatch until ``stop`` is set, to workers that play ``script``; the servers are those of the environment."""
    client = await connect(NatsSettings(), "dispatcher")
    async with open_bucket(S3Settings()) as bucket:
        store = EventStore(client)
        dispatcher = Dispatcher(
            client=client,
            store=store,
            bucket=bucket,
            executor=executor(store, bucket, script),
            workloads={one.name: one for one in workloads},
            settings=settings(**{"slots": 1, **changes}),
            archive=archive_in(bucket),
            snapshots=SnapshotSettings(events=snapshot_events),
        )
        await dispatcher.run(stop)
    await client.close()


async def main() -> None:
    """Dispatch until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await dispatch(WORKLOADS, stop)


if __name__ == "__main__":
    asyncio.run(main())
    sys.stdout.flush()
    os._exit(0)  # nothing is left to do, and libraries' threads must not keep the process
