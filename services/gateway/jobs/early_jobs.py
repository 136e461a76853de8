"""Reads a job while the view catches up: from its own events, and those of what its object shows besides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_job_id
from contracts.job import Job
from services.gateway.aggregates.early_reads import EarlyReads
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.schemas import JobObject
from services.gateway.jobs.stage_objects import stage_job_ids


class EarlyJobs:
    """Jobs of all tenants, before the history was read."""

    def __init__(self, reads: EarlyReads, presenter: JobPresenter) -> None:
        """Present jobs as ``presenter`` does, from views of their own."""
        self._reads, self._presenter = reads, presenter

    @property
    def needed(self) -> bool:
        """Whether the view is behind, so that a job has to be read here."""
        return self._reads.needed

    async def read(self, tenant: str, job_id: str, wait_s: float) -> tuple[JobObject | None, float]:
        """Return a job that includes every event stored before this call, when it has ended or after ``wait_s``.

        None, and the seconds that are left: the view has caught up.

        Raises:
            SaccadeError: JOB_NOT_FOUND, also for other tenants' jobs; STARTING; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """

        async def read(is_over: Callable[[], bool]) -> JobObject | None:
            async with self.folded(tenant, job_id) as (job, view):
                if job.state.ended or is_over():
                    return await self._presenter.reading(view).full(job)
            return None

        return await self._reads.answer(read, wait_s)

    @asynccontextmanager
    async def folded(self, tenant: str, job_id: str) -> AsyncIterator[tuple[Job, GatewayView]]:
        """Return a job, and a view of it, its stages' jobs and its inputs, which is closed at the end.

        Raises:
            SaccadeError: as ``read``.
        """
        if not is_job_id(job_id):
            raise SaccadeError(ErrorCode.JOB_NOT_FOUND)
        async with self._reads.of(tenant) as partial:
            await partial.add("job", job_id)
            job = partial.view.job(job_id)
            if job is None:
                raise SaccadeError(ErrorCode.JOB_NOT_FOUND)
            await partial.add("job", *stage_job_ids(job))
            inputs = {upload_id for ids in job.submitted.input_ids.values() for upload_id in ids}
            await partial.add("upload", *inputs)
            yield job, partial.view
