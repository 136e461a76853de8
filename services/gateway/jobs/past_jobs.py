"""Jobs as they were: one, what changed of it, and the list."""

from __future__ import annotations

import asyncio
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_job_id
from contracts.job import Job, fold_stored
from kit.bucket import Bucket
from kit.bus.tail import EventTail
from kit.history.history import History
from services.gateway.aggregates.page_cursor import JOBS, decode_past_cursor, encode_past_cursor
from services.gateway.aggregates.view import GatewayView, JobFilter
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.schemas import JobObject, JobPage
from services.gateway.jobs.stage_objects import stage_job_ids
from services.gateway.time_machine.past_aggregates import AggregateKind, PastAggregates
from services.gateway.time_machine.past_objects import as_of, changes_between, is_removed
from services.gateway.time_machine.past_pages import ListSearch, PastPages
from services.gateway.time_machine.points import Point, PointsInTime
from services.gateway.time_machine.schemas import Changes

_CONCURRENCY: Final = 16


class PastJobs:
    """The jobs of all tenants at points of the history."""

    def __init__(
        self, history: History, tail: EventTail, view: GatewayView, presenter: JobPresenter, bucket: Bucket
    ) -> None:
        """Read from ``view`` what has not changed since, else from ``history``."""
        kind = AggregateKind("job", "submitted", ErrorCode.JOB_NOT_FOUND, is_job_id, fold_stored, view.job)
        #: Jobs as folds, without presentation.
        self.aggregates = PastAggregates[Job](kind, history, tail)
        self.points = PointsInTime(history, tail)
        self._pages = PastPages(self.aggregates, history, tail)
        self._view, self._presenter, self._bucket, self._tail = view, presenter, bucket, tail

    async def read(self, tenant: str, job_id: str, point: Point) -> JobObject:
        """Return a job as it was.

        Raises:
            SaccadeError: JOB_NOT_FOUND, NOT_CREATED_YET, HISTORY_EXPIRED, BUS_UNAVAILABLE.
        """
        job = await self.aggregates.read(tenant, job_id, point)
        files_removed = await is_removed(self._bucket, job.manifest_key)
        return await self._present(job, point, files_removed=files_removed)

    async def changes(self, tenant: str, job_id: str, since: Point, until: Point) -> Changes:
        """Return what changed of a job between two points.

        Raises:
            SaccadeError: as ``read``.
        """
        after = await self.aggregates.read(tenant, job_id, until)
        try:
            before = await self.aggregates.read(tenant, job_id, since)
        except SaccadeError as error:
            if error.code is not ErrorCode.NOT_CREATED_YET:
                raise
            before = None
        events = await self.aggregates.events(tenant, job_id, since.sequence, until.sequence)
        for stage_id in self._stage_job_ids(after):
            events += await self.aggregates.events(
                tenant, stage_id, since.sequence, until.sequence, after.first_sequence
            )
        return changes_between(
            (since, until),
            await self._present(before, since) if before else None,
            await self._present(after, until),
            events,
            self._tail.epoch,
        )

    async def page(self, tenant: str, wanted: JobFilter, at: Point | None, cursor: str | None, limit: int) -> JobPage:
        """Return a page of the list of jobs as it was; ``at`` is not needed for a further page.

        Raises:
            SaccadeError: CURSOR_INVALID, BUS_UNAVAILABLE.
        """
        before, sequence = decode_past_cursor(JOBS, cursor) if cursor is not None else (None, None)
        point = at if sequence is None and at is not None else await self.points.at(sequence or 0)
        search = ListSearch(
            tenant,
            wanted.matches,
            lambda before, limit: self._view.jobs(tenant, wanted.without_states(), before=before, limit=limit),
            limit,
        )
        found, rest = await self._pages.read(search, point, before)
        return JobPage(
            data=await asyncio.gather(*(self._present(job, point) for job in found)),
            next_cursor=encode_past_cursor(JOBS, rest, point.sequence) if rest is not None else None,
            as_of=as_of(point),
        )

    async def _present(self, job: Job, point: Point, *, files_removed: bool = False) -> JobObject:
        stage_jobs = await self._stage_jobs(job, point)
        return self._presenter.past(job, stage_jobs, as_of(point, files_removed=files_removed))

    async def _stage_jobs(self, job: Job, point: Point) -> list[Job]:
        """Return the jobs of a pipeline's stages that existed, as they were."""
        slots = asyncio.Semaphore(_CONCURRENCY)

        async def find(job_id: str) -> Job | None:
            async with slots:
                return await self.aggregates.find(job.tenant, job_id, point, job.first_sequence)

        found = await asyncio.gather(*map(find, self._stage_job_ids(job)))
        return [stage_job for stage_job in found if stage_job is not None]

    def _stage_job_ids(self, job: Job) -> list[str]:
        """Return the ids of the jobs of a pipeline's stages; if the view knows it, only of those created by now."""
        ids = stage_job_ids(job)
        return [stage_job.id for stage_job in self._view.stage_jobs(job.id)] if ids and self._view.job(job.id) else ids
