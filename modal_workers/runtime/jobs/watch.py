"""Watch on the job's events: stops a run that was cancelled or has lost its claim."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from contracts.errors import SaccadeError
from contracts.job import Job
from modal_workers.runtime.bus.claim import Claim
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus
from modal_workers.runtime.stop import StopCause, StopFlag

log = logging.getLogger(__name__)

#: Interval between two reads of the job without a notification.
_READ_INTERVAL_S: Final = 5.0
#: Time for a stopped job to unwind; with publishing the interruption it is less than WORKER_GRACE_S.
_UNWIND_S: Final = 0.4


async def watch(bus: JobBus, claim: Claim, stop: StopFlag) -> None:
    """Request a stop as soon as the claim is lost, cancellation is requested or the bus refuses the run."""
    while True:
        try:
            if reason := _reason(claim, await claim.load()):
                stop.request(reason)
                return
            await bus.wait_for_change(_READ_INTERVAL_S)
        except BusRefused as error:
            log.warning("the bus refuses this run: %s", error)
            stop.request(StopCause.LOST)
            return
        except SaccadeError as error:
            log.warning("the job cannot be read: %s", error)
            await bus.wait_for_change(_READ_INTERVAL_S)


def _reason(claim: Claim, job: Job | None) -> StopCause | None:
    if not claim.holds(job):
        return StopCause.LOST
    return StopCause.CANCELLED if job is not None and job.cancel_requested else None


async def enforce(stop: StopFlag, exit_process: Callable[[], Awaitable[None]]) -> None:
    """Wait for a stop request, give the job time to unwind, then call ``exit_process``."""
    while not stop.requested:  # noqa: ASYNC110 - set by a signal handler, which must not touch an asyncio event
        await asyncio.sleep(0.05)
    await asyncio.sleep(_UNWIND_S)
    await exit_process()
