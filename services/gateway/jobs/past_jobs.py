"""Jobs as they were: one, what changed of it, and the list."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode_at
from contracts.events.job import JobInterrupted, JobRetrying
from contracts.ids import is_job_id
from contracts.job import Job, fold, fold_stored
from kit.bucket import Bucket
from kit.bus.tail import EventTail
from kit.history.history import History, HistoryEvent
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.page_cursor import JOBS, decode_past_cursor, encode_past_cursor
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.schemas import JobObject, JobPage
from services.gateway.jobs.stage_objects import stage_job_ids
from services.gateway.time_machine.past_aggregates import AggregateKind, PastAggregates
from services.gateway.time_machine.past_objects import as_of, changes_between, is_removed
from services.gateway.time_machine.past_pages import ListSearch, PastPages
from services.gateway.time_machine.points import Point, PointsInTime
from services.gateway.time_machine.schemas import Changes


def _fold_newest(events: Sequence[HistoryEvent]) -> Job | None:
    """Return the fold of the newest events of each type, if it is that of all: the costs of attempts are not in it.

    Nor is an event that another one of its type follows that nobody can read.
    """
    if not {event.type for event in events}.isdisjoint((JobInterrupted.type, JobRetrying.type)):
        return None
    job: Job | None = None
    try:
        for event in events:
            job = fold(job, decode_at(event.subject, event.body), event.sequence)
    except ValueError:
        return None
    return job


class PastJobs:
    """The jobs of all tenants at points of the history."""

    def __init__(
        self, history: History, tail: EventTail, view: GatewayView, presenter: JobPresenter, bucket: Bucket
    ) -> None:
        """Read from ``view`` what has not changed since, else from ``history``."""
        kind = AggregateKind(
            "job", "submitted", ErrorCode.JOB_NOT_FOUND, is_job_id, fold_stored, _fold_newest, view.job
        )
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
            lambda job: wanted.matches(job, self._view.filename),
            lambda before, limit: self._view.jobs(tenant, wanted.unchanging(), before=before, limit=limit),
            limit,
        )
        found, rest = await self._pages.read(search, point, before)
        return JobPage(
            data=await self._present_all(tenant, found, point),
            next_cursor=encode_past_cursor(JOBS, rest, point.sequence) if rest is not None else None,
            as_of=as_of(point),
        )

    async def _present(self, job: Job, point: Point, *, files_removed: bool = False) -> JobObject:
        stage_jobs = await self._stage_jobs(job.tenant, [job], point)
        return self._presenter.past(job, stage_jobs[job.id], as_of(point, files_removed=files_removed))

    async def _present_all(self, tenant: str, jobs: Sequence[Job], point: Point) -> list[JobObject]:
        stage_jobs = await self._stage_jobs(tenant, jobs, point)
        return [self._presenter.past(job, stage_jobs[job.id], as_of(point)) for job in jobs]

    async def _stage_jobs(self, tenant: str, jobs: Sequence[Job], point: Point) -> dict[str, list[Job]]:
        """Return the jobs of pipelines' stages that existed, as they were, by pipeline."""
        ids = {job.id: self._stage_job_ids(job) for job in jobs}
        begins = {stage_id: job.first_sequence for job in jobs for stage_id in ids[job.id]}
        found = await self.aggregates.find_all(tenant, begins, point) if begins else {}
        return {job_id: [found[stage_id] for stage_id in stages if stage_id in found] for job_id, stages in ids.items()}

    def _stage_job_ids(self, job: Job) -> list[str]:
        """Return the ids of the jobs of a pipeline's stages; if the view knows it, only of those created by now."""
        ids = stage_job_ids(job)
        return [stage_job.id for stage_job in self._view.stage_jobs(job.id)] if ids and self._view.job(job.id) else ids
