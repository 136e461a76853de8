"""Routes by which a user decides how long what a job only keeps to go on from stays after its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from contracts.errors import ErrorCode
from contracts.job import Job
from contracts.retention import scratch_expires_at
from kit.auth.principal import Writer
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["artifacts"])

_E = ErrorCode
_LONGEST_HOURS: Final = 24 * 90


class Confirmation(BaseModel):
    """All that was wanted is downloaded."""

    model_config = ConfigDict(extra="forbid")

    remove: StrictBool = Field(
        default=False, description="Remove at once what is only kept to go on from; results stay."
    )


class Extension(BaseModel):
    """Keep it longer."""

    model_config = ConfigDict(extra="forbid")

    hours: int = Field(ge=1, le=_LONGEST_HOURS, description="From now on.")


class RetentionObject(BaseModel):
    """Checkpoints and hand-over files, which a retry goes on from; results are not meant."""

    kept_until: datetime | None = Field(description="None before the job's end, and when it is removed.")
    removed_at: datetime | None


def retention_of(job: Job, default_hours: float) -> RetentionObject:
    """Show until when a job's scratch is kept."""
    return RetentionObject(kept_until=scratch_expires_at(job, default_hours), removed_at=job.scratch_removed_at)


_ANSWERS: Final = problem_responses(
    _E.JOB_NOT_FOUND, _E.JOB_IN_PIPELINE, _E.ARTIFACTS_NOT_READY, _E.SCRATCH_REMOVED, _E.BUS_UNAVAILABLE
)


@router.post("/confirm-download", summary="Confirm that a job's files were downloaded", responses=_ANSWERS)
async def confirm_download(request: Request, caller: Writer, job_id: str, body: Confirmation) -> RetentionObject:
    """Have what the job only kept to go on from removed now, if that is asked for; a retry begins anew then."""
    gateway = gateway_of(request)
    hours = gateway.settings.scratch_hours
    if not body.remove:
        return retention_of(await gateway.jobs.get(caller.tenant, job_id), hours)
    return retention_of(await gateway.jobs.keep_until(caller.tenant, job_id, datetime.now(UTC)), hours)


@router.post("/extend", summary="Keep longer what a job can go on from", responses=_ANSWERS)
async def extend(request: Request, caller: Writer, job_id: str, body: Extension) -> RetentionObject:
    """Keep checkpoints and hand-over files for so many hours from now on."""
    gateway = gateway_of(request)
    until = datetime.now(UTC) + timedelta(hours=body.hours)
    job = await gateway.jobs.keep_until(caller.tenant, job_id, until)
    return retention_of(job, gateway.settings.scratch_hours)
