"""How a run says that it ended without a result, in time or in haste, and leaves a job that does not listen."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import Cost, FailureClass, JobInterrupted
from modal_workers.runtime.bus.event_writer import EventWriter
from modal_workers.runtime.child_processes import kill_descendants
from modal_workers.runtime.jobs.claim import Claim

log = logging.getLogger(__name__)

#: How the process ends when all was said: the job succeeded or is not ours (any more), or the run was interrupted.
EXIT_DONE: Final = 0
EXIT_INTERRUPTED: Final = 10
#: Nobody was told how it ended.
EXIT_UNSAID: Final = 1

#: Whoever has something to say waits for the bus, but not for one that is gone for good; by then others have spoken.
PATIENCE_S: Final = 1800.0


class LastWords:
    """The end of a run that has claimed its job; its seconds count from here on."""

    def __init__(self, assignment: Assignment, claim: Claim, writer: EventWriter, haste_s: float) -> None:
        """Take over right after the claim; ``haste_s`` is what each thing said in a hurry may take."""
        self._run = assignment
        self._claim = claim
        self._writer = writer
        self._haste_s = haste_s
        self._began_s = time.monotonic()
        billed_since = claim.billed_since
        self._startup_s = max(0.0, time.time() - billed_since.timestamp()) if billed_since else 0.0

    def duration_s(self) -> float:
        """Give the seconds since the claim."""
        return round(time.monotonic() - self._began_s, 3)

    def billed_s(self) -> float:
        """Give the seconds that are paid for so far, start-up included."""
        return round(self._startup_s + self.duration_s(), 3)

    def cost(self) -> Cost:
        """Price what is paid for so far."""
        seconds = self.billed_s()
        return Cost(
            device=self._run.device,
            seconds=seconds,
            startup_s=round(self._startup_s, 3),
            usd=round(seconds * self._run.usd_per_s, 6),
        )

    async def keep_within(self, left_usd: float) -> None:
        """End the process, and say so, before it has cost more than the job may still cost."""
        left_s = left_usd / self._run.usd_per_s - self.billed_s() - self._haste_s
        await asyncio.sleep(max(0.0, left_s))
        log.warning("the job has cost what it may: ending its process")
        message = f"The job was stopped: {left_usd:.6g} USD were left to spend on this attempt."
        error = SaccadeError(ErrorCode.COST_CAP_REACHED, message).body()
        try:
            said = await self._interrupt("user", error, self._haste_s)
        except SaccadeError as unsaid:
            log.warning("that could not be said in time: %s", unsaid)
            said = False
        kill_descendants()
        os._exit(EXIT_INTERRUPTED if said else EXIT_UNSAID)

    async def say_failed(self, failure: FailureClass, error: ErrorBody) -> int:
        """Say why the attempt failed, once the bus is there to hear it, and give the exit code.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, after half an hour.
        """
        await self._writer.flush(PATIENCE_S)
        return EXIT_INTERRUPTED if await self._interrupt(failure, error, PATIENCE_S) else EXIT_DONE

    async def say_stopped(self) -> int:
        """Say that the run was stopped, quickly, for the process is about to be killed; give the exit code."""
        error = SaccadeError(ErrorCode.WORKER_LOST, "The worker was stopped before the job was done.").body()
        try:
            await self._writer.flush(self._haste_s)
            said = await self._interrupt("preempted", error, self._haste_s)
        except SaccadeError as unsaid:
            log.warning("the stop could not be said in time: %s", unsaid)
            return EXIT_UNSAID
        return EXIT_INTERRUPTED if said else EXIT_DONE

    async def leave(self) -> None:
        """End the process without waiting for a job that is deaf to the stop."""
        code = await self.say_stopped()
        log.warning("the job did not stop in time: ending its process")
        kill_descendants()
        os._exit(code)

    async def _interrupt(self, failure: FailureClass, error: ErrorBody, deadline_s: float) -> bool:
        run = self._run
        data = JobInterrupted(attempt=run.attempt, run_id=run.run_id, failure=failure, error=error, cost=self.cost())
        return await self._claim.interrupt(data, deadline_s)
