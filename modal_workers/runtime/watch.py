"""Looks whether the job has moved on without us or its end was asked for, and sees to it that a stop is obeyed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.assignment import Assignment
from contracts.errors import SaccadeError
from contracts.job import Job
from contracts.streams import LIVE_EVENTS, aggregate
from modal_workers.runtime.claim import Claim
from modal_workers.runtime.stop import Stop, StopReason

log = logging.getLogger(__name__)

#: Between two looks when nothing is heard; a worker without the right to subscribe has only these.
_LOOK_S: Final = 5.0
#: Events that a worker does not say of its own job while it works.
_OTHERS: Final = ("cancel_requested", "starting", "retrying", "interrupted", "failed", "cancelled", "succeeded")
#: A job that was asked to stop has this long to unwind; together with saying so it is less than WORKER_GRACE_S.
_UNWIND_S: Final = 0.4


async def watch(client: Client, claim: Claim, assignment: Assignment, stop: Stop) -> None:
    """Ask the run to stop as soon as it no longer counts or its job's end was asked for."""
    news = asyncio.Event()

    async def on_event(msg: Msg) -> None:
        if msg.subject.endswith(_OTHERS):
            news.set()

    live = LIVE_EVENTS.removesuffix("saccade.evt.>")
    await client.subscribe(live + aggregate(assignment.tenant, "job", assignment.job_id), cb=on_event)
    while True:
        try:
            if reason := _reason(claim, await claim.load()):
                stop.ask(reason)
                return
        except SaccadeError as error:
            log.warning("cannot look at the job: %s", error)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_S):
                await news.wait()
        news.clear()


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
