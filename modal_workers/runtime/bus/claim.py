"""Claim of a job by one run: every change of the job's state by a worker is published here, conditionally."""

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

_RETRY_PAUSE_S: Final = 0.2


class Claim:
    """One run's claim on its job, by conditional publishes: of two writers one loses, reads again and decides again."""

    def __init__(
        self, bus: JobBus, assignment: Assignment, *, call_id: str | None = None, billed_since: datetime | None = None
    ) -> None:
        """Prepare the claim of the assignment's run; ``billed_since`` is set where billing began before the claim."""
        self.bus = bus
        self._assignment = assignment
        self._call_id = call_id
        self.billed_since = billed_since
        #: Unique to this process: a run that was launched twice must not mistake the other's claim for its own.
        self.worker = new_id("run").rpartition("-")[2]

    @property
    def source(self) -> str:
        """Source of the run's events."""
        return f"/worker/{self._assignment.run_id}"

    async def load(self) -> Job | None:
        """Return the job, folded from its events; None if there are none.

        Raises:
            BusRefused: the refusal is final.
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self.bus.load()

    def holds(self, job: Job | None) -> bool:
        """Return whether this run, in this process, holds the claim."""
        return job is not None and self._is_own_in(job, State.RUNNING) and job.worker == self.worker

    async def acquire(self, deadline_s: float) -> bool:
        """Publish ``job.started``; return whether this run holds the claim now.

        Raises:
            BusRefused: the bus accepts nothing from this run.
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
        return await self._publish_if(
            started,
            # Unique to the process: the server treats a second publish with the same id as a repeat of the first.
            f"{run.run_id}.started.{self.worker}",
            allowed=lambda job: job.state.launching and self._is_own(job) and not job.cancel_requested,
            stored=self.holds,
            deadline_s=deadline_s,
        )

    async def succeed(self, succeeded: JobSucceeded, deadline_s: float) -> bool:
        """Publish ``job.succeeded``; return False without publishing if the claim was lost or cancellation requested.

        Raises:
            BusRefused: the bus accepts nothing from this run.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        return await self._publish_if(
            succeeded,
            f"{self._assignment.run_id}.succeeded",
            allowed=lambda job: self.holds(job) and not job.cancel_requested,
            stored=lambda job: self._is_own_in(job, State.SUCCEEDED),
            deadline_s=deadline_s,
        )

    async def interrupt(self, interrupted: JobInterrupted, deadline_s: float) -> bool:
        """Publish ``job.interrupted``; return False without publishing if the claim was lost.

        Raises:
            BusRefused: the bus accepts nothing from this run.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        return await self._publish_if(
            interrupted,
            f"{self._assignment.run_id}.interrupted",
            allowed=self.holds,
            stored=lambda job: self._is_own_in(job, State.INTERRUPTED),
            deadline_s=deadline_s,
        )

    def _is_own_in(self, job: Job, state: State) -> bool:
        return job.state is state and self._is_own(job)

    def _is_own(self, job: Job) -> bool:
        return job.is_current_run(self._assignment.attempt, self._assignment.run_id)

    async def _publish_if(
        self,
        data: EventData,
        event_id: str,
        *,
        allowed: Callable[[Job], bool],
        stored: Callable[[Job], bool],
        deadline_s: float,
    ) -> bool:
        """Publish while ``allowed``; ``stored`` recognises an earlier try whose acknowledgement was lost."""
        run = self._assignment
        message = encode(
            data,
            tenant=run.tenant,
            subject_id=run.job_id,
            source=self.source,
            event_id=event_id,
            traceparent=run.traceparent,
        )
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            remaining_s = max(0.1, end - loop.time())
            try:
                async with asyncio.timeout(remaining_s):
                    job = await self.load()
                if job is None or stored(job) or not allowed(job):
                    return job is not None and stored(job)
                await self.bus.publish(message, after=job.sequence, deadline_s=min(remaining_s, 5.0))
            except Conflict:
                continue
            except BusRefused:
                raise
            except (SaccadeError, TimeoutError) as error:
                if loop.time() >= end:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
                log.warning("%s waits for the bus: %s", event_id, error)
                await asyncio.sleep(_RETRY_PAUSE_S)
            else:
                return True
