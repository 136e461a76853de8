"""The three kinds of a worker's access to the bus, on one real nats-server in operator mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from contracts.assignment import Assignment
from contracts.worker_rights import run_grant
from kit.auth.bus_token import BusToken
from kit.http.server import serve
from kit.settings import NatsSettings
from kit.tasks import end
from modal_workers.runtime.bus.job_bus import JobBus
from modal_workers.runtime.bus.open_bus import open_bus
from modal_workers.runtime.settings import IngestSettings
from tests.harness.runtime.job_driver import JobDriver, open_job_driver
from tests.harness.servers.embedded import HOST, OperatorNats, S3Server, free_port, wait_for_port
from tests.harness.servers.gateway import running_gateway

#: NATS as a service, NATS with the credentials of one job, the gateway's ingest routes.
BUS_ACCESS = ["trusted", "credentials", "ingest"]


@dataclass
class BusConnector:
    """One kind of access to the bus, and a driver of jobs on the other side."""

    kind: str
    server: OperatorNats
    driver: JobDriver
    origin: str
    opened: list[JobBus] = field(default_factory=list)

    def token(self, assignment: Assignment, lifetime_s: float = 600.0) -> BusToken:
        return self.server.tokens.issue(run_grant(assignment.tenant, assignment.job_id, assignment.run_id), lifetime_s)

    def settings(self, assignment: Assignment, lifetime_s: float = 600.0) -> NatsSettings | IngestSettings:
        token = self.token(assignment, lifetime_s)
        if self.kind == "trusted":
            return self.server.settings
        if self.kind == "credentials":
            return self.server.settings_of(token)
        return IngestSettings(url=self.origin, token=SecretStr(token.jwt))

    async def open(self, assignment: Assignment, lifetime_s: float = 600.0) -> JobBus:
        self.opened.append(await open_bus(self.settings(assignment, lifetime_s), assignment))
        return self.opened[-1]


@asynccontextmanager
async def open_bus_connector(
    kind: str, server: OperatorNats, s3: S3Server, folder: Path
) -> AsyncIterator[BusConnector]:
    """Open a driver of jobs, and a gateway where the access leads through it."""
    async with AsyncExitStack() as stack:
        driver = await stack.enter_async_context(open_job_driver(server.settings, s3.settings))
        port = free_port()
        if kind == "ingest":
            worker_key = (server.keys / "workers.key").read_text()
            running = await stack.enter_async_context(
                running_gateway(server.settings, s3.settings, folder, worker_key=worker_key)
            )
            stop = asyncio.Event()
            serving = asyncio.ensure_future(serve(running.app, HOST, port, authenticated=False, stop=stop))
            stack.push_async_callback(end, serving)
            stack.callback(stop.set)
            await asyncio.to_thread(wait_for_port, port)
        connector = BusConnector(kind, server, driver, f"http://{HOST}:{port}")
        yield connector
        for bus in connector.opened:
            await bus.close()
