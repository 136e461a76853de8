"""Jobs that were retried in the moment in which the stream deleted their first events: no worker can read them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from contracts.errors import UNREADABLE_EVENTS, ErrorCode, SaccadeError
from contracts.events.job import JobFailed
from kit.bus.event_store import Conflict
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs

log = logging.getLogger(__name__)

#: Time in which an operator can put a damaged segment back before its jobs end without it.
_DAMAGED_S: Final = 600.0


class ArchivedJobs:
    """Fails retried jobs whose first events the stream has deleted."""

    def __init__(self, repository: JobRepository, jobs: UnfinishedJobs) -> None:
        """Read and publish by ``repository``; what must be tried again is kept in ``jobs``."""
        self._repository, self._jobs = repository, jobs
        #: Since when the archive cannot give the events of a job, by the event loop's clock.
        self._damaged_since_s: dict[str, float] = {}

    async def fail(self, job_id: str, tenant: str) -> None:
        """End a job whose first events the stream does not have; without its events, if they are lost for good.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE; SEGMENT_DAMAGED, for ``_DAMAGED_S``.
        """
        try:
            with contextlib.suppress(Conflict):
                await self._fail(job_id, tenant)
        except SaccadeError:
            self._jobs.unloaded[job_id] = tenant  # tried again: nothing else knows of it
            raise
        self._damaged_since_s.pop(job_id, None)

    async def _fail(self, job_id: str, tenant: str) -> None:
        reason = SaccadeError(ErrorCode.JOB_ARCHIVED).body()
        try:
            job, known_until = await self._repository.load_archived(job_id, tenant)
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS or not self._is_given_up(job_id):
                raise
            log.error("%s ends without its first events: %s", job_id, error)  # noqa: TRY400
            await self._repository.fail_unreadable(job_id, tenant, reason)
            return
        if job is None:
            await self._repository.fail_unreadable(job_id, tenant, reason)
        elif not job.state.ended:
            failed = JobFailed(attempt=job.attempt, failure="user", error=reason)
            await self._repository.publish(job, failed, known_until=known_until)

    def _is_given_up(self, job_id: str) -> bool:
        now_s = asyncio.get_running_loop().time()
        return now_s - self._damaged_since_s.setdefault(job_id, now_s) >= _DAMAGED_S
