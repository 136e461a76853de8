"""Last sign of life of a run: its newest heartbeat, which is stored for two days; and the end that follows from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from nats.aio.client import Client

from contracts.events.base import ADVISORY, decode_at, subject_of
from contracts.events.job import JobProgressed
from contracts.job import Job
from contracts.limits import WORKER_HEARTBEAT_S
from contracts.streams import PROGRESS
from contracts.workload import Compute
from kit.bus.event_store import EventStore

#: Returns when the worker of a job's current run was last heard; None if that is not stored.
LastSign = Callable[[Job], Awaitable[datetime | None]]


class LastSigns:
    """Reads heartbeats that came while nobody listened."""

    def __init__(self, client: Client) -> None:
        """Read the stream PROGRESS."""
        self._store = EventStore(client, PROGRESS.name)

    async def of(self, job: Job) -> datetime | None:
        """Return when the newest heartbeat of the current run was stored; None if none of it is.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        _, _, verb = JobProgressed.type.partition(".")
        for stored in await self._store.load(subject_of(ADVISORY, job.tenant, "job", job.id, verb), with_headers=True):
            try:
                run_id = decode_at(stored.subject, stored.body).data.get("run_id")
            except ValueError:
                continue
            if run_id == job.run_id:
                return stored.stored_at
        return None


async def no_sign(_: Job) -> datetime | None:
    """Return that nothing is stored."""
    return None


async def ended_at(job: Job, compute: Compute, now: datetime, last_sign: LastSign) -> datetime:
    """Return when a worker that is gone ended, as far as is known: nobody may have looked after it for hours.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    if job.started_at is None:
        return now
    if (until := await heard_until(job, now, last_sign)) is not None:
        return until
    return min(now, job.started_at + timedelta(seconds=compute.timeout_s))


async def heard_until(job: Job, now: datetime, last_sign: LastSign) -> datetime | None:
    """Return until when a worker was heard: now, if it has missed no heartbeat; None if no sign of it is stored.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    heard_at = await last_sign(job)
    return None if heard_at is None else min(now, heard_at + timedelta(seconds=WORKER_HEARTBEAT_S))
