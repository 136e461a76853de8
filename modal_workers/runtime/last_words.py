"""How a run says that it ended without a result, in time or in haste, and leaves a job that does not listen."""

from __future__ import annotations

import logging
import os
import time
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import Cost, FailureClass, JobInterrupted
from modal_workers.runtime.claim import Claim
from modal_workers.runtime.outbox import EventWriter
from modal_workers.runtime.process import kill_descendants

log = logging.getLogger(__name__)

#: How the process ends when all was said: the job succeeded or is not ours (any more), or the run was interrupted.
EXIT_DONE: Final = 0
EXIT_INTERRUPTED: Final = 10
#: Nobody was told how it ended.
EXIT_UNSAID: Final = 1

#: Whoever has something to say waits for the bus, but not for one that is gone for good; by then others have spoken.
PATIENCE_S: Final = 1800.0
#: Whoever was asked to stop has no time.
_HASTE_S: Final = 0.25


class LastWords:
    """The end of a run that has claimed its job; its seconds count from here on."""

    def __init__(self, assignment: Assignment, claim: Claim, writer: EventWriter) -> None:
        """Take over right after the claim."""
        self._run = assignment
        self._claim = claim
        self._writer = writer
        self._began_s = time.monotonic()

    def duration_s(self) -> float:
        """Give the seconds since the claim."""
        return round(time.monotonic() - self._began_s, 3)

    def cost(self) -> Cost:
        """Price the seconds since the claim."""
        seconds = self.duration_s()
        return Cost(device=self._run.device, seconds=seconds, usd=round(seconds * self._run.usd_per_s, 6))

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
            await self._writer.flush(_HASTE_S)
            said = await self._interrupt("preempted", error, _HASTE_S)
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
