"""A job and access to its artifacts, also while the view catches up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.job import Job
from services.gateway.artifacts.service import ArtifactLocation, ArtifactService
from services.gateway.jobs.early_jobs import EarlyJobs
from services.gateway.jobs.service import JobService


class JobFiles:
    """Files of jobs of all tenants."""

    def __init__(self, jobs: JobService, artifacts: ArtifactService, early: EarlyJobs) -> None:
        """Read jobs from the view, and from their own events while it is behind."""
        self._jobs, self._artifacts, self._early = jobs, artifacts, early

    @asynccontextmanager
    async def of(self, tenant: str, job_id: str) -> AsyncIterator[tuple[Job, ArtifactService]]:
        """Return a job that includes every event stored before this call, and the access to its artifacts.

        Raises:
            SaccadeError: JOB_NOT_FOUND; STARTING, BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if self._early.needed:
            async with self._early.folded(tenant, job_id) as (job, view):
                yield job, self._artifacts.reading(view)
        else:
            yield await self._jobs.read(tenant, job_id), self._artifacts

    async def locate(self, tenant: str, job_id: str, name: str) -> ArtifactLocation:
        """Find one artifact of a job, or its manifest.

        Raises:
            SaccadeError: as ``of`` and ``ArtifactService.locate``.
        """
        async with self.of(tenant, job_id) as (job, artifacts):
            return await artifacts.locate(job, name)
