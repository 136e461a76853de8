"""Workers of calls that Modal took, without containers: each claims its run by the runtime's own code, over its run's
own credentials, and works if it may."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import cbor2

from contracts.assignment import Assignment
from contracts.events.job import JobSucceeded
from contracts.job import Job
from contracts.launch import Launch
from kit.settings import NatsSettings
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.bus.open_bus import open_bus
from modal_workers.runtime.jobs.event_writer import EventWriter
from modal_workers.runtime.jobs.run_termination import RunTermination
from tests.harness.dispatch.crash_points import CrashInjector
from tests.harness.dispatch.dispatcher import DispatcherHarness

#: What a worker was paid for before it began: enough to be seen in its costs.
STARTUP_S: Final = 30.0

#: When the workers of the first dispatcher begin. "at once": when it is dead or has noted the call. "late": when their
#: run has been given up, or the call noted. "first": before it hears of the call.
Begins = Literal["at once", "late", "first"]


@dataclass
class ClaimingWorkers:
    """All workers of one job."""

    harness: DispatcherHarness
    injector: CrashInjector
    begins: Begins
    calls: list[str] = field(default_factory=list)
    worked: list[str] = field(default_factory=list)
    turned_away: list[str] = field(default_factory=list)
    _workers: list[asyncio.Task[None]] = field(default_factory=list)
    _claims: list[asyncio.Event] = field(default_factory=list)

    async def spawned(self, call_id: str, message: Any) -> None:
        """Start the worker of a call that Modal has taken."""
        (argument,), _ = cbor2.loads(message.pipelined_inputs[0].input.args)
        claimed = asyncio.Event()
        self.calls.append(call_id)
        self._claims.append(claimed)
        self._workers.append(asyncio.create_task(self._run(call_id, Launch.model_validate(argument), claimed)))
        if self.begins == "first":
            await claimed.wait()

    async def _run(self, call_id: str, launch: Launch, claimed: asyncio.Event) -> None:
        since = datetime.now(UTC) - timedelta(seconds=STARTUP_S)
        run = launch.assignment
        if run is None:
            run = Assignment.model_validate_json(await self.harness.bucket.get(launch.assignment_key or ""))
        if self.begins != "first":
            await self.injector.over.wait()
        while self.begins == "late" and _is_open(await self.harness.job(run.job_id, run.tenant), run):
            await asyncio.sleep(0.01)
        access = NatsSettings(url=launch.bus.url, credentials=launch.bus.secret, inbox_prefix=launch.bus.inbox_prefix)
        bus = await open_bus(access, run)
        try:
            claim = Claim(bus, run, call_id=call_id, billed_since=since)
            if not await claim.acquire(10.0):
                self.turned_away.append(call_id)
                return
            termination = RunTermination(run, claim, EventWriter(bus, run, claim.source), 1.0)
            claimed.set()
            await self.injector.over.wait()
            done = JobSucceeded(
                attempt=run.attempt,
                run_id=run.run_id,
                result={},
                manifest_key=self.harness.bucket.key("results", run.job_id, "manifest.json"),
                duration_s=termination.duration_s(),
                cost=termination.cost(),
            )
            if await claim.succeed(done, 10.0):
                self.worked.append(call_id)
        finally:
            claimed.set()
            await bus.close()

    async def begun(self) -> None:
        """Wait until every worker that is there has claimed its run, if it does not wait for something itself."""
        if self.begins != "late":
            await asyncio.gather(*(claim.wait() for claim in self._claims))

    async def home(self) -> None:
        """Wait until every worker has ended."""
        await asyncio.gather(*self._workers)


def _is_open(job: Job, run: Assignment) -> bool:
    return job.state.launching and job.is_current_run(run.attempt, run.run_id) and job.call_id is None
