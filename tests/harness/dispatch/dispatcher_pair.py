"""Two dispatchers as processes of their own: one leads, one stands by, and the one that leads can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.aio.client import Client

from contracts.events.base import encode
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.streams import aggregate
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings, numeric_library_threads
from tests.harness.rules.dispatcher_process import DispatcherProcess
from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port, wait_until_ready

TENANT = "acme"


class MonitoredNats(EmbeddedNats):
    """nats-server that says how many messages it has sent."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._monitoring_port = free_port()

    def _more_configuration(self) -> str:
        return f"http: {HOST}:{self._monitoring_port}\n"

    def sent(self) -> int:
        """Return how many messages it has sent to clients."""
        with urllib.request.urlopen(f"http://{HOST}:{self._monitoring_port}/varz", timeout=10) as answer:
            return int(json.load(answer)["out_msgs"])


class DispatcherService(DispatcherProcess):
    """``python -m services.dispatcher`` with the tests' workers; it keeps its folder and port over a kill."""

    def __init__(self, nats: NatsSettings, s3: S3Settings, folder: Path, name: str, **environment: str) -> None:
        self.port = free_port()
        own = {"DISPATCHER_PORT": str(self.port), "DISPATCHER_DATA_DIR": str(folder / name)}
        environment = {"WORKER_CATALOG": "tests.workers", **numeric_library_threads(1), **own, **environment}
        super().__init__(nats, s3, folder / f"{name}.log", module="services.dispatcher", **environment)

    def wait_until_ready(self, timeout_s: float = 3600.0) -> None:
        """Wait until it has folded the history."""
        wait_until_ready(self.port, self.process, timeout_s)

    def wait_until(self, role: str, timeout_s: float = 60.0) -> None:
        """Wait until it is ``leading`` or ``standing by``."""
        end = time.monotonic() + timeout_s
        while (found := self.role()) != role:
            assert not self.ended()
            assert time.monotonic() < end, found
            time.sleep(0.1)

    def role(self) -> str:
        """Return its role; empty while nobody leads."""
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{self.port}/health") as answer:
            return str(json.load(answer)["checks"]["lease"].get("detail", ""))
        return ""

    def sequence(self) -> int:
        """Return the sequence of the newest event that it has folded."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=30) as answer:
            found = re.search(r"^saccade_dispatcher_stream_sequence (\S+)", answer.read().decode(), re.MULTILINE)
        assert found
        return int(float(found[1]))


def by_role(one: DispatcherService, other: DispatcherService) -> tuple[DispatcherService, DispatcherService]:
    """Wait until both have folded the history; return the one that leads, and the one that stands by."""
    for service in (one, other):
        service.wait_until_ready()
    leader, standby = (other, one) if other.role() == "leading" else (one, other)
    leader.wait_until("leading")
    standby.wait_until("standing by")
    return leader, standby


async def submit_job(client: Client) -> str:
    """Submit a job that ends at once; return its id."""
    job_id = new_id("job")
    deadline = datetime.now(UTC) + timedelta(hours=1)
    data = JobSubmitted(workload="scripted", workload_version="1", inputs={}, params={"script": []}, deadline=deadline)
    message = encode(data, tenant=TENANT, subject_id=job_id, source="/test")
    await EventStore(client).publish(message, after=0, among=aggregate(TENANT, "job", job_id), deadline_s=30)
    return job_id


async def until_starting(client: Client, job_id: str, timeout_s: float = 120.0) -> None:
    """Wait until a dispatcher has decided to launch a job."""
    async with asyncio.timeout(timeout_s):
        while not await EventStore(client).load(f"saccade.evt.{TENANT}.job.{job_id}.starting"):
            await asyncio.sleep(0.02)
