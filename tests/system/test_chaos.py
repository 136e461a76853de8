"""Kill -9 of any process at any moment: every job still ends once, and a client that reconnects misses nothing.

``make test`` runs a few rounds, ``make soak`` many; ``--seed`` runs the rounds of a failure again.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr
from saccade import Client

from contracts.events import decode
from contracts.events.job import JobStarted
from services.kit.event_store import EventStore, Stored
from services.kit.nats import connect
from services.kit.settings import NatsSettings
from tests.servers import free_port

ENDS = {"job.succeeded", "job.failed", "job.cancelled"}
VICTIMS = ("nats-server", "rclone", "services.gateway", "services.dispatcher", "services.notifier", "worker")
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

    async def history(self, job_id: str) -> list[Stored]:
        """Read all durable events of a job, from the stream itself."""
        secrets = json.loads((self.data / "secrets.json").read_text())
        port = json.loads((self.data / "ports.json").read_text())["nats-server"]
        settings = NatsSettings(
            url=f"nats://127.0.0.1:{port}",
            user=secrets["nats_user"],
            password=SecretStr(secrets["nats_password"]),
        )
        client = await connect(settings, "chaos")
        try:
            return [stored async for stored in EventStore(client).history(0, f"saccade.evt.*.job.{job_id}.>")]
        finally:
            await client.close()


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline()[:3])
    return ""


@dataclass
class Listener:
    """An SSE client that resumes by its cursor."""

    url: str
    job_id: str
    ids: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with Client(self.url) as client:
            for event in client.events(job_id=self.job_id, follow=True):
                if event.cursor is None:
                    continue
                self.ids.append(str(event.envelope["id"]))
                if event.type in ENDS:
                    break
        self.done.set()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    data, port = tmp_path / "data", free_port()
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}  # noqa: TID251
    environment["WORKER_CATALOG"] = "tests.workers"
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


def check(history: list[Stored], listener: Listener, context: str) -> None:
    """Hold what one job left against what is promised."""
    envelopes = [decode(stored.body) for stored in history]
    types = [envelope.type for envelope in envelopes]
    assert Counter(types)["job.succeeded"] == 1, f"{context}: {types}"
    assert sum(kind in ENDS for kind in types) == 1, f"{context}: ended more than once: {types}"
    assert types[-1] == "job.succeeded", f"{context}: something happened after the end: {types}"
    runs = [data.run_id for data in (envelope.parsed() for envelope in envelopes) if isinstance(data, JobStarted)]
    assert len(runs) == len(set(runs)), f"{context}: one run was claimed twice: {types}"
    assert listener.done.is_set(), f"{context}: the client saw no end: {listener.ids} of {types}"
    assert listener.ids == [envelope.id for envelope in envelopes], f"{context}: the client's events differ"


@pytest.mark.soak
def test_every_job_ends_once_whatever_is_killed(system: System, seed: int, soak_runs: int) -> None:
    """Kill one process after the other, each at a random moment of a short job."""
    choose = random.Random(seed)
    with Client(system.url, timeout_s=60.0) as client:
        for number in range(soak_runs):
            victim, delay_s = VICTIMS[number % len(VICTIMS)], choose.uniform(0.0, 1.2)
            context = f"--seed {seed}: run {number}, {victim} killed after {delay_s:.3f} s"
            killer = Killer(system, victim, delay_s)
            killing = killer.start()
            job = client.submit("scripted", {}, {"script": SCRIPT})
            listener = Listener(system.url, job.id)
            listener.start()
            listener.done.wait(WAIT_S)
            killing.join()
            # A worker may have done its work before its turn came; everything else runs all the time.
            assert killer.killed or victim == "worker", f"{context}: nothing was killed"
            check(asyncio.run(system.history(job.id)), listener, context)
            manifest = client.artifacts(job.id)
            assert {artifact.name for artifact in manifest.artifacts} == {"one.bin", "two.bin"}, context
