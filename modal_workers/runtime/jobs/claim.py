"""Whether this run is the one that counts: every change of the job's state by a worker is made and refused here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.job import JobInterrupted, JobStarted, JobSucceeded
from contracts.ids import new_id
from contracts.job import Job, State
from kit.bus.event_store import Conflict
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus

log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.2


class Claim:
    """One run's hold on its job, by conditional publishes: of two writers one loses, reads again, decides again."""

    def __init__(
        self, bus: JobBus, assignment: Assignment, *, call_id: str | None = None, billed_since: datetime | None = None
    ) -> None:
        """Take the run that the assignment names, as this call, paid for since then where that is before the claim."""
        self.bus = bus
        self._assignment = assignment
        self._call_id = call_id
        self.billed_since = billed_since
        #: Of this process alone: a run that was launched twice must not take the other's claim for its own.
        self.worker = new_id("run").rpartition("-")[2]

    @property
    def source(self) -> str:
        """Source of the run's events."""
        return f"/worker/{self._assignment.run_id}"

    async def load(self) -> Job | None:
        """Read the job as its events tell it.

        Raises:
            BusRefused: for good.
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self.bus.load()

    def holds(self, job: Job | None) -> bool:
        """Tell whether this run, in this process, is the one that counts."""
        return job is not None and self._owns(job, State.RUNNING) and job.worker == self.worker

    async def take(self, deadline_s: float) -> bool:
        """Say ``job.started``; tell whether the job is ours now.

        Raises:
            BusRefused: the bus takes nothing from this run.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        run = self._assignment
        started = JobStarted(
            attempt=run.attempt,
            run_id=run.run_id,
            device=run.device,
            worker=self.worker,
            call_id=self._call_id,
            billed_since=self.billed_since,
        )
        return await self._say(
            started,
            # Not only of the run: the server takes a second publish with the same id for a repeat of the first.
            f"{run.run_id}.started.{self.worker}",
            allowed=lambda job: job.state.launching and self._runs(job) and not job.cancel_requested,
            said=self.holds,
            deadline_s=deadline_s,
        )

    async def succeed(self, succeeded: JobSucceeded, deadline_s: float) -> bool:
        """Say ``job.succeeded``; False, and nothing said, when the run no longer counts or its end was asked for.

        Raises:
            BusRefused: the bus takes nothing from this run.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        return await self._say(
            succeeded,
            f"{self._assignment.run_id}.succeeded",
            allowed=lambda job: self.holds(job) and not job.cancel_requested,
            said=lambda job: self._owns(job, State.SUCCEEDED),
            deadline_s=deadline_s,
        )

    async def interrupt(self, interrupted: JobInterrupted, deadline_s: float) -> bool:
        """Say ``job.interrupted``; False, and nothing said, when the run no longer counts.

        Raises:
            BusRefused: the bus takes nothing from this run.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        return await self._say(
            interrupted,
            f"{self._assignment.run_id}.interrupted",
            allowed=self.holds,
            said=lambda job: self._owns(job, State.INTERRUPTED),
            deadline_s=deadline_s,
        )

    def _owns(self, job: Job, state: State) -> bool:
        return job.state is state and self._runs(job)

    def _runs(self, job: Job) -> bool:
        return job.is_current_run(self._assignment.attempt, self._assignment.run_id)

    async def _say(
        self,
        data: EventData,
        event_id: str,
        *,
        allowed: Callable[[Job], bool],
        said: Callable[[Job], bool],
        deadline_s: float,
    ) -> bool:
        """Publish while it is allowed; ``said`` recognises that an earlier try, whose answer was lost, was stored."""
        run = self._assignment
        message = encode(data, tenant=run.tenant, subject_id=run.job_id, source=self.source, event_id=event_id)
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            left_s = max(0.1, end - loop.time())
            try:
                async with asyncio.timeout(left_s):
                    job = await self.load()
                if job is None or said(job) or not allowed(job):
                    return job is not None and said(job)
                await self.bus.publish(message, after=job.sequence, deadline_s=min(left_s, 5.0))
            except Conflict:
                continue
            except BusRefused:
                raise
            except (SaccadeError, TimeoutError) as error:
                if loop.time() >= end:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
                log.warning("%s waits for the bus: %s", event_id, error)
                await asyncio.sleep(_PAUSE_S)
            else:
                return True
