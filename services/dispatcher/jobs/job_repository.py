"""Repository of jobs: loads them from the event stream and publishes their events conditionally."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.base import EventData, decode, encode
from contracts.events.job import JobCancelled, JobFailed, JobInput, JobRetrying, JobSubmitted, JobSucceeded
from contracts.job import Job, fold
from contracts.job_request import job_input
from contracts.streams import aggregate
from contracts.trace_context import context_within
from kit.bus.event_store import EventStore, StoredEvent
from kit.history.history import History
from kit.history.older_events import as_stored
from services.dispatcher.jobs.late_jobs import LateJobs
from services.dispatcher.jobs.stored_uploads import StoredUploads
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs, fold_all

SOURCE = "/dispatcher"
_RETRIED_OR_ENDED = {JobRetrying.type, JobSucceeded.type, JobFailed.type, JobCancelled.type}


#: Returns the current time with its zone; tests inject a virtual clock.
NowFunction = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class NotLeading(Exception):  # noqa: N818 - it is an answer, not a fault
    """Raised when the lease is lost: another dispatcher may act, so this one must not."""


class JobRepository:
    """Jobs in the event stream; what it reads and writes also updates the jobs in memory."""

    def __init__(
        self,
        store: EventStore,
        jobs: UnfinishedJobs,
        may_act: Callable[[], bool],
        *,
        clock: NowFunction = utc_now,
        history: History | None = None,
    ) -> None:
        """Write to ``store`` only while ``may_act()`` is true; ``history`` has what the store has deleted."""
        self.clock = clock
        self._store, self._history = store, history
        self._uploads = StoredUploads(store, history)
        self.refusal_of = LateJobs(store, self._uploads).refusal
        self._jobs = jobs
        self._may_act = may_act

    def require_leader(self) -> None:
        """Raise unless this dispatcher may act.

        Raises:
            NotLeading: the lease is lost.
        """
        if not self._may_act():
            raise NotLeading

    async def publish(self, job: Job, data: EventData, event_id: str | None = None, *, known_until: int = 0) -> Job:
        """Publish an event if the job has no newer event than ``job``; return the job after it.

        ``known_until`` as in ``EventStore.publish``, for a job of ``load_archived``.

        Raises:
            Conflict: the job has newer events.
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE; the event may have been stored.
        """
        self.require_leader()
        message = encode(
            data,
            tenant=job.tenant,
            subject_id=job.id,
            source=SOURCE,
            event_id=event_id,
            time=self.clock(),
            traceparent=context_within(job.traceparent),
        )
        among = aggregate(job.tenant, "job", job.id)
        sequence = await self._store.publish(message, after=job.sequence, among=among, known_until=known_until)
        after = fold(job, decode(message.body), sequence)
        assert after is not None
        return self._jobs.put(after)

    async def submit(self, job_id: str, tenant: str, data: JobSubmitted, traceparent: str | None = None) -> Job:
        """Submit a job if no job has this id; return it. Its trace is that of ``traceparent``.

        Raises:
            Conflict: a job with this id exists.
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE; the event may have been stored.
        """
        self.require_leader()
        message = encode(
            data,
            tenant=tenant,
            subject_id=job_id,
            source=SOURCE,
            event_id=f"{job_id}.submitted",
            time=self.clock(),
            traceparent=traceparent,
        )
        sequence = await self._store.publish(message, after=0, among=aggregate(tenant, "job", job_id))
        job = fold(None, decode(message.body), sequence)
        assert job is not None
        return self._jobs.put(job)

    async def load_of_any_tenant(self, job_id: str) -> Job | None:
        """Load the current job without updating the jobs in memory; None when its events are gone.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return fold_all(await self._store.load(aggregate("*", "job", job_id)))

    async def load_archived(self, job_id: str, tenant: str = "*") -> tuple[Job | None, int]:
        """Return a job whose first events the stream has deleted, and the sequence up to which its events were read.

        None when there is no such job, or the stream has it whole. The jobs in memory stay as they are.

        Raises:
            SegmentDamaged: a segment of the archive is missing, or was cut off or changed.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if self._history is None:
            return None, 0
        bounds = await self._history.bounds()
        if bounds.first >= bounds.first_in_stream:
            return None, 0
        events = await self._history.as_of(aggregate(tenant, "job", job_id), bounds.last)
        if not events or events[0].sequence >= bounds.first_in_stream:
            return None, 0
        return fold_all([as_stored(event) for event in events]), bounds.last

    async def fail_unreadable(self, job_id: str, tenant: str, error: ErrorBody) -> None:
        """End a retried job by what the stream still has of it: its first events are lost.

        Raises:
            Conflict: the job has newer events.
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE; the event may have been stored.
        """
        self.require_leader()
        stored = await self._store.load(aggregate(tenant, "job", job_id))
        events = [decode(event.body) for event in stored]
        retried = next((event for event in reversed(events) if event.type in _RETRIED_OR_ENDED), None)
        data = retried.parsed() if retried else None
        if fold_all(stored) is not None or not isinstance(data, JobRetrying):
            self._jobs.forget(job_id)
            return
        failed = JobFailed(attempt=data.attempt, failure="user", error=error)
        message = encode(failed, tenant=tenant, subject_id=job_id, source=SOURCE, time=self.clock())
        await self._store.publish(message, after=stored[-1].sequence, among=aggregate(tenant, "job", job_id))
        self._jobs.forget(job_id)

    async def inputs_of(self, job: Job) -> dict[str, list[JobInput]]:
        """Return the files of a job, read from their uploads where it names them by their ids.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, when the events of one are gone; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE,
                SEGMENT_DAMAGED.
        """
        if not job.submitted.input_ids:
            return job.submitted.inputs
        found = await self._uploads.load_all(job.tenant, job.submitted.used_uploads)
        files = {upload.id: job_input(upload) for upload in found if upload.completed is not None}
        try:
            return {name: [files[upload_id] for upload_id in ids] for name, ids in job.submitted.input_ids.items()}
        except KeyError as error:
            message = f"The upload {error.args[0]} of this job is not stored any more."
            raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND, message) from None

    async def history(self, job_id: str, tenant: str) -> list[StoredEvent]:
        """Load all events of a job, in order.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return [stored async for stored in self._store.history(0, aggregate(tenant, "job", job_id))]

    async def load(self, job_id: str, tenant: str) -> Job | None:
        """Load the current job from the newest event of each type; None when its events are gone.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return self._update(job_id, await self._store.load(aggregate(tenant, "job", job_id)))

    async def load_from_history(self, job_id: str, tenant: str) -> Job | None:
        """Load a job that is not in memory from all its events: only they contain the cost of each attempt.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return self._update(job_id, await self.history(job_id, tenant))

    def _update(self, job_id: str, events: list[StoredEvent]) -> Job | None:
        job = fold_all(events)
        if job is None:
            self._jobs.forget(job_id)
            return None
        return self._jobs.put(job)
