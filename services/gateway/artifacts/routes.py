"""Routes of artifacts: list a job's files, download one."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from contracts.manifest import Artifact
from kit.auth.principal import Reader
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.artifacts.service import ArtifactService
from services.gateway.jobs.dependencies import JobServiceDep

router = APIRouter(prefix="/v1/jobs/{job_id}/artifacts", tags=["artifacts"])

_E = ErrorCode


ArtifactServiceDep = Annotated[ArtifactService, from_app_state("artifacts")]


class ArtifactList(BaseModel):
    """The manifest of a successful job; of another job, the artifacts published so far."""

    complete: bool = Field(description="Whether this is the manifest, which is written after all files.")
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


@router.get("", summary="List a job's artifacts", responses=problem_responses(
    _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
))  # fmt: skip
async def list_artifacts(
    caller: Reader, job_id: str, jobs: JobServiceDep, artifacts: ArtifactServiceDep
) -> ArtifactList:
    """Return the manifest; before the job's end, the artifacts published so far."""
    job = await jobs.read(caller.tenant, job_id)
    if manifest := await artifacts.manifest(job):
        return ArtifactList(complete=True, **manifest.model_dump())
    return ArtifactList(
        complete=False,
        job_id=job.id,
        tenant=job.tenant,
        workload=job.submitted.workload,
        workload_version=job.submitted.workload_version,
        attempt=job.attempt,
        run_id=job.run_id,
        artifacts=artifacts.published(job),
    )


@router.get(
    "/{name:path}",
    status_code=307,
    response_class=RedirectResponse,
    summary="Download an artifact",
    responses={
        307: {
            "description": "To a presigned URL in the bucket, valid for an hour.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
        ),
    },
)  # fmt: skip
async def fetch_artifact(
    caller: Reader, job_id: str, name: str, jobs: JobServiceDep, artifacts: ArtifactServiceDep
) -> RedirectResponse:
    """Redirect to the file; names may contain slashes, and `manifest.json` is a valid name."""
    url = await artifacts.presigned_url(await jobs.read(caller.tenant, job_id), name)
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})
