"""Removal of results and uploads whose retention is over.

Two events for results: ``job.results_expired`` before the first file goes, so that nobody is sent to a file that is
going and no retry writes into the folder, and ``job.results_removed`` after the last one. Whatever stops a gateway in
between, the view of each knows which removals are not complete. Files of expired uploads that stay are found by the
dispatcher's sweep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData
from contracts.events.job import JobResultsExpired, JobResultsRemoved
from contracts.job import Job
from contracts.tenant_retention import RetentionHours, RetentionLimits
from kit.bucket import Bucket
from kit.bus.event_store import Conflict, EventStore
from kit.bus.jetstream_api import stream_info
from kit.history.event_lines import parse_timestamp
from kit.s3_client import StorageRefused
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.service import JobService
from services.gateway.uploads.service import UploadService

log = logging.getLogger(__name__)

#: Jobs, and uploads, of a tenant that are looked at in one sweep.
_AT_ONCE: Final = 200
#: Jobs of a tenant whose files are not deleted because the bucket does not answer, before a sweep leaves the others.
_MOST_UNANSWERED: Final = 3
#: The same of jobs whose files it refuses to delete: they are locked, or a policy keeps them.
_MOST_REFUSED: Final = 50
#: Time after the end of a job that has failed for which its inputs are kept: it may be retried.
_RETRIED_WITHIN: Final = timedelta(hours=72)


class RetentionSweep:
    """Sweeps of one gateway. Any number of them may sweep at the same time."""

    def __init__(
        self,
        store: EventStore,
        bucket: Bucket,
        view: GatewayView,
        jobs: JobService,
        uploads: UploadService,
        *,
        limits: Callable[[], RetentionLimits],
        default: RetentionHours,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``limits`` returns those of the keys file now; ``clock`` is that of this machine."""
        self._clock = clock
        self._store, self._bucket, self._view = store, bucket, view
        self._jobs, self._uploads = jobs, uploads
        self._limits, self._default = limits, default
        #: The job of a tenant after which its next sweep goes on: those before it would be refused again and again.
        self._go_on_after: dict[str, str] = {}
        #: Jobs whose results, and uploads, that this process has removed.
        self.results = self.uploads = 0
        #: Unix time of the last sweep that came to its end.
        self.swept_at_s = 0.0

    @property
    def removing(self) -> int:
        """Number of jobs whose results are expired and may be in the bucket still."""
        return self._view.results.count_removing()

    async def run_once(self) -> None:
        """Expire what is due, and remove the files of what is expired.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE; the next sweep goes on.
        """
        now = await self._now()
        for job_id in self._view.results.kept_until(now, _AT_ONCE):
            await self._expire(job_id)
        limits = self._limits()
        for tenant in {*self._view.results.tenants(), *self._view.upload_tenants()}:
            hours = limits.of_tenant(tenant, self._default)
            if hours.results is not None:
                await self._expire_results(tenant, now - timedelta(hours=hours.results))
            if hours.uploads is not None:
                await self._expire_uploads(tenant, now - timedelta(hours=hours.uploads), now)
        refused = [error for tenant in self._view.results.tenants() if (error := await self._remove_of(tenant))]
        if refused:
            raise refused[0]
        self.swept_at_s = self._clock().timestamp()

    async def _now(self) -> datetime:
        """Return the time of the server that stamps events, or of this machine if that is earlier.

        A clock that runs ahead removes nothing by itself.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        info = await stream_info(self._store.client, self._store.stream)
        return min(parse_timestamp(info["ts"]), self._clock())

    async def _expire_results(self, tenant: str, before: datetime) -> None:
        for job_id in self._view.results.ended_before(tenant, before, _AT_ONCE):
            await self._expire(job_id)

    async def _expire(self, job_id: str) -> None:
        job = self._view.job(job_id)
        if job is not None and job.state.ended and job.results_expired_at is None:
            await self._append(job, JobResultsExpired(reason="retention"))

    async def _remove_of(self, tenant: str) -> SaccadeError | None:
        """Delete expired results of a tenant; return why some stay.

        Neither those of other tenants nor its other jobs stay with them: a sweep begins after the last one that stayed.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        refused: list[SaccadeError] = []
        unanswered, after = 0, self._go_on_after.pop(tenant, "")
        removing = self._view.results.removing
        for job_id in removing(tenant, _AT_ONCE, after=after) or removing(tenant, _AT_ONCE):
            try:
                await self._remove(job_id)
            except SaccadeError as error:
                if error.code is not ErrorCode.STORAGE_UNAVAILABLE:
                    raise
                log.warning("results of %s are not removed yet: %s", job_id, error, extra={"job_id": job_id})
                refused.append(error)
                unanswered += not isinstance(error, StorageRefused)
                self._go_on_after[tenant] = job_id
                if unanswered == _MOST_UNANSWERED or len(refused) == _MOST_REFUSED:
                    break
        return refused[0] if refused else None

    async def _remove(self, job_id: str) -> None:
        """Delete the results of a job, and of the jobs of its stages, and say so.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        job = self._view.job(job_id)
        if job is None or job.results_expired_at is None:
            return
        keys = await self._bucket.list_keys(f"{self._bucket.key('results', job_id)}/")
        keys += await self._bucket.list_keys(self._bucket.key("results", f"stg_{job_id.removeprefix('job_')}-"))
        for key in keys:
            await self._bucket.delete(key)
        await self._append(job, JobResultsRemoved(files=len(keys)))
        self.results += 1
        log.info("removed %d files of results of %s", len(keys), job_id, extra={"job_id": job_id})

    async def _append(self, job: Job, data: EventData) -> None:
        """Store an event that a job has at most once, unless another gateway was first.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        with suppress(Conflict):
            await self._jobs.events.append_once(job.tenant, job.id, data, after=job.sequence)

    async def _expire_uploads(self, tenant: str, before: datetime, now: datetime) -> None:
        for upload in self._view.uploads_completed_before(tenant, before, now - _RETRIED_WITHIN, _AT_ONCE):
            if not self._view.unfinished_jobs_of(upload.id) and await self._uploads.expire_one(upload):
                self.uploads += 1
                log.info("removed upload %s: its retention is over", upload.id)
