"""What the dispatcher writes about jobs: each event on condition that the job is as it was when that was decided."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from contracts.events.base import EventData, decode, encode
from contracts.events.job import JobSubmitted
from contracts.job import Job, fold
from contracts.streams import aggregate
from kit.bus.event_store import EventStore, StoredEvent
from services.dispatcher.jobs.unfinished_jobs import Jobs, fold_all

SOURCE = "/dispatcher"


#: Gives the time of day, with its zone: another one where a test lets hours pass in seconds.
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Give the time of day."""
    return datetime.now(UTC)


class NotLeading(Exception):  # noqa: N818 - it is an answer, not a fault
    """The lease is gone: another dispatcher may act by now, so this one must not."""


class Ledger:
    """Reads jobs from the stream and writes their events; what it learns it shares with the jobs in memory."""

    def __init__(
        self, store: EventStore, jobs: Jobs, may_act: Callable[[], bool], *, clock: Clock = utc_now
    ) -> None:  # fmt: skip
        """Write to ``store`` while ``may_act`` says so."""
        self.clock = clock
        self._store = store
        self._jobs = jobs
        self._may_act = may_act

    def check(self) -> None:
        """Stop whoever must not act.

        Raises:
            NotLeading: somebody else may act.
        """
        if not self._may_act():
            raise NotLeading

    async def say(self, job: Job, data: EventData, event_id: str | None = None) -> Job:
        """Publish an event on condition that the job is as we know it, and give the job after it.

        Raises:
            Conflict: the job has moved on.
            NotLeading: somebody else may act.
            SaccadeError: BUS_UNAVAILABLE; the event may have been stored.
        """
        self.check()
        message = encode(
            data, tenant=job.tenant, subject_id=job.id, source=SOURCE, event_id=event_id, time=self.clock()
        )
        sequence = await self._store.publish(message, after=job.sequence, among=aggregate(job.tenant, "job", job.id))
        after = fold(job, decode(message.body), sequence)
        assert after is not None
        return self._jobs.put(after)

    async def begin(self, job_id: str, tenant: str, data: JobSubmitted) -> Job:
        """Submit a job, on condition that there is none of this id.

        Raises:
            Conflict: there is one.
            NotLeading: somebody else may act.
            SaccadeError: BUS_UNAVAILABLE; the event may have been stored.
        """
        self.check()
        message = encode(
            data, tenant=tenant, subject_id=job_id, source=SOURCE, event_id=f"{job_id}.submitted", time=self.clock()
        )
        sequence = await self._store.publish(message, after=0, among=aggregate(tenant, "job", job_id))
        job = fold(None, decode(message.body), sequence)
        assert job is not None
        return self._jobs.put(job)

    async def find(self, job_id: str) -> Job | None:
        """Read a job of any tenant as it is in the stream now; None when its events are gone. Nobody is told of it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return fold_all(await self._store.load(aggregate("*", "job", job_id)))

    async def history(self, job_id: str, tenant: str) -> list[StoredEvent]:
        """Read all events of a job, in order.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return [stored async for stored in self._store.history(0, aggregate(tenant, "job", job_id))]

    async def load(self, job_id: str, tenant: str) -> Job | None:
        """Read a job as it is in the stream now; None when its events are gone.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return self._learn(job_id, await self._store.load(aggregate(tenant, "job", job_id)))

    async def load_whole(self, job_id: str, tenant: str) -> Job | None:
        """Read all events of a job, for one that is not in memory: only they tell what each attempt has cost.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return self._learn(job_id, await self.history(job_id, tenant))

    def _learn(self, job_id: str, events: list[StoredEvent]) -> Job | None:
        job = fold_all(events)
        if job is None:
            self._jobs.forget(job_id)
            return None
        return self._jobs.put(job)
