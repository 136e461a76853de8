"""Removes the scratch files of ended jobs, by default 48 h after their end, and publishes that.

The files are listed from the bucket and the time is computed from each job's events, so that nothing depends on a
process staying alive. Results stay: only ``scratch/`` is swept, and the cache that workers keep of it. The last key of
a job is deleted after the cache, so that a sweep that was interrupted, or did not reach the cache, is repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import UNREADABLE_EVENTS, SaccadeError
from contracts.events.job import JobScratchRemoved
from contracts.ids import is_job_id, pipeline_id_of
from contracts.job import Job
from contracts.retention import scratch_expires_at
from kit.bucket import Bucket
from kit.bus.event_store import Conflict
from kit.s3_client import StorageRefused
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.job_repository import JobRepository, NotLeading
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.settings import RetentionSettings

log = logging.getLogger(__name__)

_ERROR_RETRY_S: Final = 5.0
#: When a job is looked at again whose events cannot be read, so that nothing says when its scratch files go, or whose
#: files the bucket refuses to delete.
_REFUSED_RETRY: Final = timedelta(hours=1)


class ScratchSweep:
    """Sweeps of the bucket, while its dispatcher leads."""

    def __init__(
        self,
        repository: JobRepository,
        bucket: Bucket,
        executor: Executor,
        jobs: UnfinishedJobs,
        settings: RetentionSettings,
    ) -> None:
        """Sweep scratch files that belong to none of the unfinished ``jobs``."""
        self._repository = repository
        self._bucket = bucket
        self._executor = executor
        #: False once the executor has not answered in this sweep: then it is not asked again for each job.
        self._cache_answers = True
        self._jobs = jobs
        self._settings = settings
        #: Expiry of jobs' scratch files as last read, or when to read it again; removed when an event may change it.
        self._expires_at: dict[str, datetime] = {}
        self._changed = asyncio.Event()

    def on_retention_changed(self, job_id: str) -> None:
        """Read a job's expiry again: the job was retried, or its retention was changed."""
        self._expires_at.pop(job_id, None)
        self._changed.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        self._expires_at.clear()  # another dispatcher may have led since
        while True:
            wait_s = self._settings.sweep_s
            self._changed.clear()
            try:
                await self._sweep()
            except (SaccadeError, NotLeading) as error:
                log.warning("the sweep of scratch files failed and is repeated: %s", error)
                wait_s = min(wait_s, _ERROR_RETRY_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        """Sweep the bucket once.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        self._cache_answers = True
        folder = f"{self._bucket.key('scratch')}/"
        keys_by_job: defaultdict[str, list[str]] = defaultdict(list)
        for key in await self._bucket.list_keys(folder):
            job_id = key.removeprefix(folder).partition("/")[0]
            if is_job_id(job_id):
                keys_by_job[pipeline_id_of(job_id) or job_id].append(key)
        for job_id, keys in keys_by_job.items():
            try:
                await self._remove_if_expired(job_id, keys)
            except SaccadeError as error:
                if error.code not in UNREADABLE_EVENTS and not isinstance(error, StorageRefused):
                    raise
                # One job must not keep those after it from being swept: its events may be gone for good, or its
                # files locked for years.
                log.warning("the scratch files of %s stay: %s", job_id, error, extra={"job_id": job_id})
                self._expires_at[job_id] = self._repository.clock() + _REFUSED_RETRY
        self._expires_at = {job_id: at for job_id, at in self._expires_at.items() if job_id in keys_by_job}

    async def _remove_if_expired(self, job_id: str, keys: list[str]) -> None:
        """Remove the scratch files of a job if they have expired.

        Raises:
            NotLeading: the lease is lost.
            StorageRefused: the bucket refuses to delete some of them; the others are removed.
            SaccadeError: HISTORY_EXPIRED, SEGMENT_DAMAGED: its events cannot be read; BUS_UNAVAILABLE,
                STORAGE_UNAVAILABLE.
        """
        now = self._repository.clock()
        if self._jobs.get(job_id) or ((known := self._expires_at.get(job_id)) and now < known):
            return
        job, known_until = await self._repository.load_of_any_tenant(job_id), 0
        if job is None:
            job, known_until = await self._repository.load_archived(job_id)
        if job is None or not job.state.ended:
            return
        if job.scratch_removed_at is None:
            expires_at = scratch_expires_at(job, self._settings.scratch_hours)
            if expires_at is None or now < expires_at:
                if expires_at and not self._changed.is_set():  # otherwise the value may be outdated already
                    self._expires_at[job_id] = expires_at
                return
            try:
                # Published before the files go: a retry is then refused, or it came first and this publish conflicts.
                removed = JobScratchRemoved(files=len(keys))
                await self._repository.publish(job, removed, known_until=known_until)
            except Conflict:
                return
            log.info("removing %d scratch files of %s", len(keys), job_id, extra={"job_id": job_id})
        *others, last = keys
        refused = await self._delete(others)
        self._repository.require_leader()
        if await self._clear_cache(job):
            refused = await self._delete([last]) or refused
        if refused:
            raise refused

    async def _delete(self, keys: list[str]) -> StorageRefused | None:
        """Delete files; return why the bucket refuses to delete one of them, if it does.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        refused = None
        for key in keys:
            self._repository.require_leader()
            try:
                await self._bucket.delete(key)
            except StorageRefused as error:
                refused = error
        return refused

    async def _clear_cache(self, job: Job) -> bool:
        """Remove a job from the workers' cache; return whether that is done, or no longer worth waiting for."""
        if self._cache_answers:
            try:
                await self._executor.clear_cache(job.id)
                self._repository.require_leader()
                return True
            except SaccadeError as error:
                self._cache_answers = False
                log.warning("the workers' cache could not be cleared: %s", error)
        # By then the cache has expired: workers that start remove entries that were not used for so long.
        hours = timedelta(hours=self._settings.scratch_hours)
        return job.scratch_removed_at is not None and self._repository.clock() >= job.scratch_removed_at + hours
