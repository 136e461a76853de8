"""Routes of a job's retention: how long its scratch files (checkpoints, files between stages) are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter

from contracts.errors import ErrorCode
from contracts.events import EventData
from contracts.job import Job
from contracts.job_files import change_results_retention, change_retention, expire_results
from contracts.tenant_retention import MAX_RETENTION_H
from kit.auth.principal import Writer
from kit.http.path_ids import JobId
from kit.http.problems import problem_responses
from services.gateway.jobs.dependencies import JobPresenterDep, JobServiceDep
from services.gateway.jobs.schemas import Confirmation, Extension, RetentionObject

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])

_E = ErrorCode
_ANSWERS: Final = problem_responses(
    _E.JOB_NOT_FOUND,
    _E.JOB_IN_PIPELINE,
    _E.ARTIFACTS_NOT_READY,
    _E.SCRATCH_REMOVED,
    _E.RESULTS_REMOVED,
    _E.BUS_UNAVAILABLE,
)


@router.post("/confirm-download", summary="Confirm that a job's files were downloaded", responses=_ANSWERS)
async def confirm_download(
    caller: Writer, job_id: JobId, body: Confirmation, jobs: JobServiceDep, presenter: JobPresenterDep
) -> RetentionObject:
    """Delete the job's scratch files now if `remove` is true, and its results too with `results`.

    A retry then starts from the beginning, and is refused once the results are deleted.
    """
    now = datetime.now(UTC)

    def decision(job: Job) -> EventData | None:
        by = f"tenant:{caller.tenant}"
        return expire_results(job, by) if body.results else change_retention(job, now, by)

    if not body.remove:
        return presenter.retention(await jobs.get(caller.tenant, job_id))
    return presenter.retention(await jobs.change_ended(caller.tenant, job_id, decision))


@router.post("/extend", summary="Keep a job's scratch files, or its results, longer", responses=_ANSWERS)
async def extend(
    caller: Writer, job_id: JobId, body: Extension, jobs: JobServiceDep, presenter: JobPresenterDep
) -> RetentionObject:
    """Keep checkpoints and files between stages, or with `results` the results, for this many hours from now on."""
    hours = min(body.hours, MAX_RETENTION_H) if body.results else body.hours
    until = datetime.now(UTC) + timedelta(hours=hours)

    def decision(job: Job) -> EventData:
        by = f"tenant:{caller.tenant}"
        return change_results_retention(job, until, by) if body.results else change_retention(job, until, by)

    return presenter.retention(await jobs.change_ended(caller.tenant, job_id, decision))
