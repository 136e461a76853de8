"""Routes of a job's retention: how long its scratch files (checkpoints, files between stages) are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter

from contracts.errors import ErrorCode
from kit.auth.principal import Writer
from kit.http.path_ids import JobId
from kit.http.problems import problem_responses
from services.gateway.jobs.dependencies import JobPresenterDep, JobServiceDep
from services.gateway.jobs.schemas import Confirmation, Extension, RetentionObject

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])

_E = ErrorCode
_ANSWERS: Final = problem_responses(
    _E.JOB_NOT_FOUND, _E.JOB_IN_PIPELINE, _E.ARTIFACTS_NOT_READY, _E.SCRATCH_REMOVED, _E.BUS_UNAVAILABLE
)


@router.post("/confirm-download", summary="Confirm that a job's files were downloaded", responses=_ANSWERS)
async def confirm_download(
    caller: Writer, job_id: JobId, body: Confirmation, jobs: JobServiceDep, presenter: JobPresenterDep
) -> RetentionObject:
    """Delete the job's scratch files now if `remove` is true; a retry then starts from the beginning."""
    if not body.remove:
        return presenter.retention(await jobs.get(caller.tenant, job_id))
    return presenter.retention(await jobs.set_scratch_expiry(caller.tenant, job_id, datetime.now(UTC)))


@router.post("/extend", summary="Keep a job's scratch files longer", responses=_ANSWERS)
async def extend(
    caller: Writer, job_id: JobId, body: Extension, jobs: JobServiceDep, presenter: JobPresenterDep
) -> RetentionObject:
    """Keep checkpoints and files between stages for this many hours from now on."""
    expires_at = datetime.now(UTC) + timedelta(hours=body.hours)
    return presenter.retention(await jobs.set_scratch_expiry(caller.tenant, job_id, expires_at))
