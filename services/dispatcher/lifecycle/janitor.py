"""Removes what was only kept to go on from, when its time after a job's end is over, and says so.

What is there is read from the bucket and when it is due from each job's events, so that nothing is forgotten with a
process. Results stay: only ``scratch/`` is swept, and what workers keep of it in a cache of their own. The last key in
the bucket goes after that, so that whoever dies in between, or does not reach the cache, comes again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import SaccadeError
from contracts.events.job import JobScratchRemoved
from contracts.ids import is_job_id, pipeline_id_of
from contracts.job import Job
from contracts.retention import scratch_expires_at
from kit.bucket import Bucket
from kit.bus.event_store import Conflict
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.job_repository import Ledger, NotLeading
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.settings import RetentionSettings

log = logging.getLogger(__name__)

_AGAIN_S: Final = 5.0


class Janitor:
    """Sweeps while its dispatcher leads."""

    def __init__(
        self, ledger: Ledger, bucket: Bucket, executor: Executor, jobs: Jobs, settings: RetentionSettings
    ) -> None:
        """Sweep what belongs to no job of ``jobs``, which have not ended."""
        self._ledger = ledger
        self._bucket = bucket
        self._executor = executor
        #: Whether this sweep still asks the executor: one that does not answer is not waited for job by job.
        self._cache_answers = True
        self._jobs = jobs
        self._settings = settings
        #: When the scratch of jobs is due, as it was last read; what changes that drops it from here.
        self._due: dict[str, datetime] = {}
        self._news = asyncio.Event()

    def changed(self, job_id: str) -> None:
        """Look at a job anew: it lives again, or somebody has decided about its scratch."""
        self._due.pop(job_id, None)
        self._news.set()

    async def run(self) -> None:
        """Sweep until cancelled."""
        self._due.clear()  # another dispatcher may have led since
        while True:
            wait_s = self._settings.sweep_s
            self._news.clear()
            try:
                await self._sweep()
            except (SaccadeError, NotLeading) as error:
                log.warning("what is left of old jobs stays for now: %s", error)
                wait_s = min(wait_s, _AGAIN_S)
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        """Look through the bucket once.

        Raises:
            NotLeading: somebody else may act.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        self._cache_answers = True
        folder = f"{self._bucket.key('scratch')}/"
        left: defaultdict[str, list[str]] = defaultdict(list)
        for key in await self._bucket.list_keys(folder):
            job_id = key.removeprefix(folder).partition("/")[0]
            if is_job_id(job_id):
                left[pipeline_id_of(job_id) or job_id].append(key)
        for job_id, keys in left.items():
            await self._see_to(job_id, keys)
        self._due = {job_id: due for job_id, due in self._due.items() if job_id in left}

    async def _see_to(self, job_id: str, keys: list[str]) -> None:
        now = self._ledger.clock()
        if self._jobs.get(job_id) or ((due := self._due.get(job_id)) and now < due):
            return
        job = await self._ledger.find(job_id)
        if job is None or not job.state.ended:
            return
        if job.scratch_removed_at is None:
            until = scratch_expires_at(job, self._settings.scratch_hours)
            if until is None or now < until:
                if until and not self._news.is_set():  # else what was read may be old already
                    self._due[job_id] = until
                return
            try:
                # Before the files go: whoever would go on from them is refused, or has written first and is spared.
                await self._ledger.say(job, JobScratchRemoved(files=len(keys)))
            except Conflict:
                return
            log.info("removing %d files that were kept for %s", len(keys), job_id, extra={"job_id": job_id})
        *others, last = keys
        for key in others:
            self._ledger.check()
            await self._bucket.delete(key)
        self._ledger.check()
        if await self._clears_cache(job):
            await self._bucket.delete(last)

    async def _clears_cache(self, job: Job) -> bool:
        """Have the workers' cache of a job removed; tells whether that is done, or no longer worth waiting for."""
        if self._cache_answers:
            try:
                await self._executor.clear_cache(job.id)
                self._ledger.check()
                return True
            except SaccadeError as error:
                self._cache_answers = False
                log.warning("what workers have cached stays for now: %s", error)
        # By then it has gone without us: workers that begin remove what nobody has wanted for so long.
        hours = timedelta(hours=self._settings.scratch_hours)
        return job.scratch_removed_at is not None and self._ledger.clock() >= job.scratch_removed_at + hours
