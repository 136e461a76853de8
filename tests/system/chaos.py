"""A whole embedded system whose processes can be killed one by one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pydantic import SecretStr
from saccade_client import Client

from kit.bus.connection import connect
from kit.bus.event_store import EventStore, StoredEvent
from kit.settings import NatsSettings
from tests.harness.servers.embedded import free_port

ENDS = {"job.succeeded", "job.failed", "job.cancelled"}
#: Long enough for every victim to be hit in every phase of a job's life, short enough for many rounds.
SCRIPT = [
    "stage first",
    "progress 0.5 half",
    "work 0.15",
    "save one.bin 4096",
    "stage second",
    "work 0.15",
    "save two.bin 65536",
    "progress 1.0 done",
]
ROOT = Path(__file__).parents[2]
WAIT_S = 90.0


@dataclass
class System:
    """A whole embedded system in processes of its own."""

    data: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def process_ids(self, victim: str) -> list[int]:
        """Find what to kill; a worker may not run at this moment."""
        if victim == "worker":
            found = []
            for record in self.data.glob("dispatcher/runs/*/worker.json"):
                with suppress(OSError, ValueError, KeyError):
                    found.append(int(json.loads(record.read_text())["pid"]))
            return [pid for pid in found if psutil.pid_exists(pid)]
        children = psutil.Process(self.process.pid).children()
        return [child.pid for child in children if victim in _command(child)]

    def nats(self) -> NatsSettings:
        """Return the settings of the bus."""
        secrets = json.loads((self.data / "secrets.json").read_text())
        port = json.loads((self.data / "ports.json").read_text())["nats-server"]
        return NatsSettings(
            url=f"nats://127.0.0.1:{port}",
            user=secrets["nats_user"],
            password=SecretStr(secrets["nats_password"]),
        )

    async def history(self, job_id: str) -> list[StoredEvent]:
        """Read all durable events of a job, from the stream itself."""
        client = await connect(self.nats(), "chaos")
        try:
            return [stored async for stored in EventStore(client).history(0, f"saccade.evt.*.job.{job_id}.>")]
        finally:
            await client.close()


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()[:3])
    return ""


@dataclass
class Killer:
    """Kills one process, once, a while after it was started."""

    system: System
    victim: str
    delay_s: float
    killed: int | None = None

    def start(self) -> threading.Thread:
        thread = threading.Thread(target=self._kill)
        thread.start()
        return thread

    def _kill(self) -> None:
        time.sleep(self.delay_s)
        # A service may just be starting again, and a worker may not have been launched yet.
        end = time.monotonic() + 2.0
        while self.killed is None and time.monotonic() < end:
            for pid in self.system.process_ids(self.victim):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed = pid
                    break
            else:
                time.sleep(0.01)


@contextmanager
def running(tmp_path: Path, **more: str) -> Iterator[System]:
    """Run ``saccade up`` with the tests' workers and ``more`` variables, until the end of the block."""
    data, port = tmp_path / "data", free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}  # noqa: TID251
    environment |= {"WORKER_CATALOG": "tests.workers,tests.session_workers"} | more
    command = [sys.executable, "-m", "cli", "up", "--port", str(port), "--data", str(data)]
    log = (tmp_path / "up.log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)
    system = System(data, port, process)
    try:
        with Client(system.url) as client:
            end = time.monotonic() + WAIT_S
            while True:
                assert process.poll() is None, (tmp_path / "up.log").read_text()
                with suppress(Exception):
                    if client.health()["status"] == "ok":
                        break
                assert time.monotonic() < end, (tmp_path / "up.log").read_text()
                time.sleep(0.1)
        yield system
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        finally:
            process.kill()
            log.close()
