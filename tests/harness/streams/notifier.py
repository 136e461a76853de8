"""A notifier in this event loop behind a real socket, someone who publishes, and a client that reads blocks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import nats
from nats.aio.client import Client as NatsClient

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, encode
from contracts.events.job import (
    Cost,
    JobFailed,
    JobInterrupted,
    JobProgressed,
    JobQueued,
    JobRetrying,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
)
from contracts.ids import new_id
from kit.auth.api_keys import AuthSettings
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings
from services.notifier.app import run
from services.notifier.settings import NotifierSettings, SandboxNatsSettings, SmtpSettings, WebhookSettings
from tests.harness.servers.embedded import HOST, free_port, wait_until_ready
from tests.harness.servers.loopback_tls import NO_CERTIFICATES, ONE_AUTHORITY

RUN_ID = "run_1"


@dataclass
class Block:
    """One block as a client got it."""

    event: str = "message"
    id: str | None = None
    retry: str | None = None
    data: str = ""

    @property
    def json(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.data)
        return value

    @property
    def sequence(self) -> int:
        assert self.id
        return int(self.id.partition(".")[2])


@dataclass
class Stream:
    """One connection to an event stream."""

    response: httpx.Response
    comments: int = 0
    raw: bytearray = field(default_factory=bytearray)
    _bytes: AsyncIterator[bytes] | None = None

    @property
    def status(self) -> int:
        return self.response.status_code

    async def __aiter__(self) -> AsyncIterator[Block]:
        rest = b""
        block, filled = Block(), False
        self._bytes = self._bytes or self.response.aiter_raw()
        async for chunk in self._bytes:
            self.raw += chunk
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.startswith(b":"):
                    self.comments += 1
                elif line:
                    name, _, value = line.decode().partition(": ")
                    assert name in {"event", "id", "retry", "data"}, line
                    assert name != "data" or not block.data, "data must be one line"
                    setattr(block, name, value)
                    filled = True
                elif filled:
                    yield block
                    block, filled = Block(), False

    async def take(self, count: int, timeout_s: float = 10.0) -> list[Block]:
        """Read so many blocks."""
        taken: list[Block] = []
        async with asyncio.timeout(timeout_s):
            async for block in self:
                taken.append(block)
                if len(taken) == count:
                    break
        return taken

    async def rest(self, timeout_s: float = 10.0) -> list[Block]:
        """Read to the end of the connection."""
        async with asyncio.timeout(timeout_s):
            return [block async for block in self]


class Reader:
    """Opens streams of one notifier."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(
            base_url=url, timeout=20, limits=httpx.Limits(max_connections=None), trust_env=False, verify=NO_CERTIFICATES
        )

    @contextlib.asynccontextmanager
    async def open(
        self, path: str, cursor: str | None = None, headers: dict[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        sent = dict(headers or {}) | ({"Last-Event-ID": cursor} if cursor else {})
        async with self.http.stream("GET", path, headers=sent) as response:
            yield Stream(response)


@contextlib.asynccontextmanager
async def notifier(
    settings: NatsSettings,
    auth: AuthSettings | None = None,
    webhooks: WebhookSettings | None = None,
    smtp: SmtpSettings | None = None,
    sandbox: SandboxNatsSettings | None = None,
    **options: Any,
) -> AsyncIterator[Reader]:
    """Run a notifier in this event loop."""
    port = free_port()
    stop = asyncio.Event()
    task = asyncio.ensure_future(
        run(
            NotifierSettings(port=port, **options),
            webhooks or WebhookSettings(),
            settings,
            auth or AuthSettings(),
            stop,
            smtp=smtp or SmtpSettings(),
            sandbox=sandbox or SandboxNatsSettings(),
        )
    )
    reader = Reader(f"http://{HOST}:{port}")
    try:
        async with asyncio.timeout(15):
            while True:
                assert not task.done(), task.result()
                with contextlib.suppress(httpx.TransportError):
                    if (await reader.http.get("/health")).json()["status"] == "ok":
                        break
                await asyncio.sleep(0.02)
        yield reader
    finally:
        await reader.http.aclose()
        stop.set()
        async with asyncio.timeout(10):
            await task


class NotifierProcess:
    """A notifier in a process of its own, on one port over a kill and a start."""

    def __init__(self, settings: NatsSettings, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self._environment = {
            "NATS_URL": settings.url,
            "NATS_REPLICAS": str(settings.replicas),
            "NOTIFIER_PORT": str(self.port),
            **ONE_AUTHORITY,
            **environment,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NotifierProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=30)

    def start(self) -> None:
        command = [sys.executable, "-m", "services.notifier"]
        self.process = subprocess.Popen(command, env=self._environment, stderr=subprocess.DEVNULL)
        wait_until_ready(self.port, self.process)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process
        self.process.send_signal(number)
        return self.process.wait(10)


class Publisher:
    """Publishes jobs' events as the other services do."""

    def __init__(self, client: NatsClient) -> None:
        self.client = client
        self.store = EventStore(client)

    async def say(self, job_id: str, data: EventData, tenant: str = "local", event_id: str | None = None) -> int:
        """Publish one event and give its sequence (0 for progress)."""
        message = encode(data, tenant=tenant, subject_id=job_id, source="/test", event_id=event_id)
        store = self.store if data.kind == "evt" else EventStore(self.client, "PROGRESS")
        return await store.publish(message, deadline_s=20)

    async def submit(self, tenant: str = "local") -> str:
        """Submit a job and give its id."""
        job_id = new_id("job")
        await self.say(job_id, submitted(), tenant)
        return job_id

    async def start(self, job_id: str, tenant: str = "local") -> None:
        """Queue and start a job: three events."""
        await self.say(job_id, JobQueued(position=0), tenant)
        await self.say(job_id, JobStarting(attempt=1, run_id=RUN_ID, executor="local", device="cpu"), tenant)
        await self.say(job_id, JobStarted(attempt=1, run_id=RUN_ID, device="cpu", worker="w"), tenant)


def submitted(filler: str = "") -> JobSubmitted:
    return JobSubmitted(
        workload="lap_compare",
        workload_version="1",
        inputs={},
        params={"filler": filler} if filler else {},
        deadline=datetime.now(UTC) + timedelta(hours=1),
    )


def progressed(fraction: float, message: str = "") -> JobProgressed:
    return JobProgressed(
        attempt=1, run_id=RUN_ID, stage="align", fraction=fraction, stage_fraction=fraction, message=message
    )


def succeeded() -> JobSucceeded:
    cost = Cost(device="cpu", seconds=1, usd=0)
    return JobSucceeded(attempt=1, run_id=RUN_ID, result={"delta_s": 0.4}, manifest_key="k", duration_s=1, cost=cost)


def failed() -> JobFailed:
    error = ErrorBody(code=ErrorCode.CLIP_TOO_SHORT, message="m", hint="h")
    return JobFailed(attempt=1, failure="user", error=error)


def interrupted(filler: str) -> JobInterrupted:
    """Return an event as large as its filler, which a job can have many of."""
    error = ErrorBody(code=ErrorCode.WORKER_LOST, message=filler, hint="h")
    return JobInterrupted(attempt=1, run_id=RUN_ID, failure="lost", error=error)


def retrying() -> JobRetrying:
    now = datetime.now(UTC)
    return JobRetrying(attempt=2, after="asked", delay_s=0, not_before=now, deadline=now + timedelta(hours=1))


@contextlib.asynccontextmanager
async def publisher(settings: NatsSettings) -> AsyncIterator[Publisher]:
    """Connect someone who publishes; the streams are there afterwards."""
    client = await connect(settings, "test")
    try:
        await declare(client)
        yield Publisher(client)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await client.close()
