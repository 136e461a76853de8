"""Termination of a run: its cost, and the final event and exit code of a run without a result."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from contracts.assignment import Assignment
from contracts.cost_settlement import settled_cost
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import Cost, FailureClass, JobInterrupted
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.child_processes import kill_descendants
from modal_workers.runtime.jobs.event_writer import EventWriter

log = logging.getLogger(__name__)

#: Exit codes of a process whose final event is stored: the job succeeded or belongs to another run; interrupted.
EXIT_DONE: Final = 0
EXIT_INTERRUPTED: Final = 10
#: Exit code of a process whose final event could not be stored.
EXIT_UNREPORTED: Final = 1

#: How long a final event waits for the bus, seconds; after that the dispatcher has declared the run lost.
REPORT_TIMEOUT_S: Final = 1800.0
#: How long before the cost limit a run ends, at most, to publish why: without that event it would count as lost.
_BUDGET_REPORT_S: Final = 3.0


class RunTermination:
    """Termination of a run that has claimed its job, with its duration and cost."""

    def __init__(self, assignment: Assignment, claim: Claim, writer: EventWriter, urgent_deadline_s: float) -> None:
        """Start the clock right after the claim; ``urgent_deadline_s`` bounds each publish before a kill."""
        self._run = assignment
        self._claim = claim
        self._writer = writer
        self._urgent_deadline_s = urgent_deadline_s
        self._started_s = time.monotonic()
        billed_since = claim.billed_since
        self._startup_s = max(0.0, time.time() - billed_since.timestamp()) if billed_since else 0.0

    def duration_s(self) -> float:
        """Return the seconds since the claim."""
        return round(time.monotonic() - self._started_s, 3)

    def billed_s(self) -> float:
        """Return the seconds billed so far, start-up included."""
        return round(self._startup_s + self.duration_s(), 3)

    def cost(self) -> Cost:
        """Return the cost so far."""
        return settled_cost(self._run.device, self._run.usd_per_s, self.billed_s(), self._startup_s)

    async def enforce_budget(self, remaining_usd: float) -> None:
        """End the process, with an event, before it costs more than ``remaining_usd``."""
        remaining_s = remaining_usd / self._run.usd_per_s - self.billed_s() - _BUDGET_REPORT_S
        await asyncio.sleep(max(0.0, remaining_s))
        log.warning("the cost limit is reached: ending the process")
        message = f"The job was stopped: this attempt may cost at most {remaining_usd:.6g} USD."
        error = SaccadeError(ErrorCode.COST_CAP_REACHED, message).body()
        try:
            published = await self._interrupt("user", error, _BUDGET_REPORT_S)
        except SaccadeError as unavailable:
            log.warning("the event could not be stored in time: %s", unavailable)
            published = False
        kill_descendants()
        os._exit(EXIT_INTERRUPTED if published else EXIT_UNREPORTED)

    async def publish_failure(self, failure: FailureClass, error: ErrorBody) -> int:
        """Publish why the attempt failed, waiting for the bus if needed; return the exit code.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, after ``REPORT_TIMEOUT_S``.
        """
        await self._writer.flush(REPORT_TIMEOUT_S)
        return EXIT_INTERRUPTED if await self._interrupt(failure, error, REPORT_TIMEOUT_S) else EXIT_DONE

    async def publish_stop(self) -> int:
        """Publish that the run was stopped, fast, because the process is about to be killed; return the exit code."""
        error = SaccadeError(ErrorCode.WORKER_LOST, "The worker was stopped before the job was done.").body()
        try:
            await self._writer.flush(self._urgent_deadline_s)
            published = await self._interrupt("preempted", error, self._urgent_deadline_s)
        except SaccadeError as unavailable:
            log.warning("the interruption could not be stored in time: %s", unavailable)
            return EXIT_UNREPORTED
        return EXIT_INTERRUPTED if published else EXIT_DONE

    async def exit_process(self) -> None:
        """End the process without waiting for a job that ignores the stop."""
        code = await self.publish_stop()
        log.warning("the job did not stop in time: ending its process")
        kill_descendants()
        os._exit(code)

    async def _interrupt(self, failure: FailureClass, error: ErrorBody, deadline_s: float) -> bool:
        run = self._run
        data = JobInterrupted(attempt=run.attempt, run_id=run.run_id, failure=failure, error=error, cost=self.cost())
        return await self._claim.interrupt(data, deadline_s)
