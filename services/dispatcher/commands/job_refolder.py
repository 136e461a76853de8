"""Folds a job from its history again, in place of what is in memory."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

from pydantic import TypeAdapter

from contracts.commands import FieldDifference
from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs, fold_all
from services.dispatcher.scheduling.reconciler import Reconciler

#: Times that the history is read again because the job went on meanwhile.
_READS: Final = 20
_JOB: Final = TypeAdapter(Job)


class JobRefolder:
    """Replaces jobs in memory by what their history says."""

    def __init__(self, repository: JobRepository, jobs: UnfinishedJobs, reconciler: Reconciler) -> None:
        """Replace jobs of ``jobs``, and have ``reconciler`` go on from there."""
        self._repository = repository
        self._jobs = jobs
        self._reconciler = reconciler

    async def tenant_of(self, job_id: str) -> str:
        """Return the tenant of a job.

        Raises:
            SaccadeError: JOB_NOT_FOUND, BUS_UNAVAILABLE.
        """
        if job := self._jobs.get(job_id) or await self._repository.load_of_any_tenant(job_id):
            return job.tenant
        raise SaccadeError(ErrorCode.JOB_NOT_FOUND, f"There is no job {job_id}.", hint="Check the id.")

    async def refold(self, job_id: str, tenant: str) -> tuple[Job, Job | None]:
        """Replace a job in memory; return it, and the one that was there before.

        Raises:
            SaccadeError: JOB_NOT_FOUND, SEQUENCE_CONFLICT (its events come faster than they are read), BUS_UNAVAILABLE.
        """
        for _ in range(_READS):
            job = fold_all(await self._repository.history(job_id, tenant))
            if job is None:
                raise SaccadeError(ErrorCode.JOB_NOT_FOUND, f"The job {job_id} has no event job.submitted.")
            # From here to the end nothing is awaited: no event can come in between.
            before = self._jobs.stage_job(job_id)
            if before is None or before.sequence <= job.sequence:
                self._jobs.replace(job)
                self._go_on(job, before)
                return job, before
        raise SaccadeError(ErrorCode.SEQUENCE_CONFLICT)

    def _go_on(self, job: Job, before: Job | None) -> None:
        if not job.state.ended:
            self._reconciler.enqueue(job)
        elif before is not None and not before.state.ended:
            self._reconciler.on_ended(job.id, job)


def differences(before: Job | None, job: Job) -> list[FieldDifference]:
    """Return the fields whose value in memory was not the one of the history."""
    if before is None:
        return []
    old, new = (_JOB.dump_python(version, mode="json") for version in (before, job))
    names: list[str] = [declared.name for declared in fields(Job)]
    return [_difference(name, old[name], new[name]) for name in names if old[name] != new[name]]


def _difference(name: str, memory: Any, history: Any) -> FieldDifference:
    return FieldDifference(field=name, memory=memory, history=history)
