"""Routes of what jobs leave behind."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from contracts.manifest import Artifact
from kit.auth.principal import Reader
from kit.http.problems import problem_responses
from services.gateway.dependencies import gateway_of

router = APIRouter(prefix="/v1/jobs/{job_id}/artifacts", tags=["artifacts"])

_E = ErrorCode


class ArtifactList(BaseModel):
    """The manifest of a job that has succeeded; of any other, the files that it has left so far."""

    complete: bool = Field(description="Whether this is the manifest, which is written when all files are there.")
    job_id: str
    tenant: str
    workload: str
    workload_version: str
    attempt: int
    run_id: str | None
    created_at: datetime | None = None
    duration_s: float | None = None
    device: str | None = None
    result: dict[str, Any] | None = None
    artifacts: list[Artifact]


@router.get("", summary="List what a job left behind", responses=problem_responses(
    _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
))  # fmt: skip
async def list_artifacts(request: Request, caller: Reader, job_id: str) -> ArtifactList:
    """Give the manifest; before the job's end the files that are there already, if there are any."""
    gateway = gateway_of(request)
    job = await gateway.jobs.read(caller.tenant, job_id)
    if manifest := await gateway.artifacts.manifest(job):
        return ArtifactList(complete=True, **manifest.model_dump())
    return ArtifactList(
        complete=False,
        job_id=job.id,
        tenant=job.tenant,
        workload=job.submitted.workload,
        workload_version=job.submitted.workload_version,
        attempt=job.attempt,
        run_id=job.run_id,
        artifacts=gateway.artifacts.so_far(job),
    )


@router.get(
    "/{name:path}",
    status_code=307,
    response_class=RedirectResponse,
    summary="Fetch a file that a job left behind",
    responses={
        307: {
            "description": "To a presigned address in the bucket, good for an hour.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
        ),
    },
)  # fmt: skip
async def fetch_artifact(request: Request, caller: Reader, job_id: str, name: str) -> RedirectResponse:
    """Redirect to the file; names may hold slashes, and `manifest.json` is a file too."""
    gateway = gateway_of(request)
    job = await gateway.jobs.read(caller.tenant, job_id)
    place = await gateway.artifacts.place(job, name)
    url = await gateway.bucket.presign_get(
        place.key, filename=place.key.rpartition("/")[2], content_type=place.media_type
    )
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})
