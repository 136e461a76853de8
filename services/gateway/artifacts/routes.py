"""Routes of artifacts: list a job's files, download one, open a page among them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from contracts.manifest import Artifact
from kit.auth.principal import Reader
from kit.http.app_state import from_app_state
from kit.http.head_requests import IS_HEAD
from kit.http.path_ids import JobId
from kit.http.problems import problem_responses
from services.gateway.artifacts.pages import ArtifactPages
from services.gateway.artifacts.service import ArtifactService
from services.gateway.jobs.dependencies import JobServiceDep

router = APIRouter(prefix="/v1/jobs/{job_id}/artifacts", tags=["artifacts"])

_E = ErrorCode


ArtifactServiceDep = Annotated[ArtifactService, from_app_state("artifacts")]
ArtifactPagesDep = Annotated[ArtifactPages, from_app_state("artifact_pages")]


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
    caller: Reader, job_id: JobId, jobs: JobServiceDep, artifacts: ArtifactServiceDep
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
            "description": "To a presigned URL in the bucket, valid for an hour. To a path of this server for an HTML "
            "page, so that its links to the job's other files work: any browser can open it, for a day.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
        **problem_responses(
            _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
        ),
    },
)  # fmt: skip
async def fetch_artifact(
    request: Request,
    caller: Reader,
    job_id: JobId,
    name: str,
    *,
    jobs: JobServiceDep,
    artifacts: ArtifactServiceDep,
    pages: ArtifactPagesDep,
) -> RedirectResponse:
    """Redirect to the file; names may contain slashes, and `manifest.json` is a valid name."""
    location = await artifacts.locate(await jobs.read(caller.tenant, job_id), name)
    if location.is_page:
        return _redirect(pages.address(caller, job_id, name, datetime.now(UTC)))
    return _redirect(await artifacts.presign(location, head=_is_head(request)))


# Beside the routes above, which take a name with slashes.
page_router = APIRouter(prefix="/v1/jobs/{job_id}/pages", include_in_schema=False)


@page_router.get("/{ticket}/{name:path}")
async def show_page(
    request: Request,
    job_id: JobId,
    ticket: str,
    name: str,
    *,
    jobs: JobServiceDep,
    artifacts: ArtifactServiceDep,
    pages: ArtifactPagesDep,
) -> Response:
    """Return a page; redirect to the bucket for all other files, which the page shows or links to."""
    caller = pages.admit(request.headers, job_id, ticket, datetime.now(UTC))
    location = await artifacts.locate(await jobs.read(caller.tenant, job_id), name)
    if location.is_page:
        return await pages.response(location, head=_is_head(request))
    return _redirect(await artifacts.presign(location, head=_is_head(request)))


def _is_head(request: Request) -> bool:
    """Return whether the client asks for the head only: a URL that is presigned for GET is refused then."""
    return bool(request.scope.get(IS_HEAD))


def _redirect(url: str) -> RedirectResponse:
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})
