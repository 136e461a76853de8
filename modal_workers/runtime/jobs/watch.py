"""Looks whether the job has moved on without us or its end was asked for, and sees to it that a stop is obeyed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from contracts.errors import SaccadeError
from contracts.job import Job
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus
from modal_workers.runtime.jobs.claim import Claim
from modal_workers.runtime.stop import Stop, StopReason

log = logging.getLogger(__name__)

#: Between two looks when nothing is heard.
_LOOK_S: Final = 5.0
#: A job that was asked to stop has this long to unwind; together with saying so it is less than WORKER_GRACE_S.
_UNWIND_S: Final = 0.4


async def watch(bus: JobBus, claim: Claim, stop: Stop) -> None:
    """Ask the run to stop as soon as it no longer counts, its job's end was asked for, or nobody hears it any more."""
    while True:
        try:
            if reason := _reason(claim, await claim.load()):
                stop.ask(reason)
                return
            await bus.changed(_LOOK_S)
        except BusRefused as error:
            log.warning("the run is cut off: %s", error)
            stop.ask(StopReason.LOST)
            return
        except SaccadeError as error:
            log.warning("cannot look at the job: %s", error)
            await bus.changed(_LOOK_S)


def _reason(claim: Claim, job: Job | None) -> StopReason | None:
    if not claim.holds(job):
        return StopReason.LOST
    return StopReason.CANCELLED if job is not None and job.cancel_requested else None


async def enforce(stop: Stop, leave: Callable[[], Awaitable[None]]) -> None:
    """Once the run was asked to stop, give the job a moment to unwind, then ``leave`` without it."""
    while not stop.asked:  # noqa: ASYNC110 - a signal handler sets it, which must touch no event
        await asyncio.sleep(0.05)
    await asyncio.sleep(_UNWIND_S)
    await leave()
