"""Routes of artifacts: list a job's files, download one, open a page among them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, Field

from contracts.errors import ErrorCode
from contracts.limits import PRESIGNED_URL_S
from contracts.manifest import Artifact
from kit.auth.principal import Reader
from kit.http.app_state import from_app_state
from kit.http.head_requests import IS_HEAD
from kit.http.path_ids import JobId
from kit.http.problems import problem_responses
from kit.http.request_body import RequestBody
from services.gateway.artifacts.job_files import JobFiles
from services.gateway.artifacts.pages import ArtifactPages
from services.gateway.artifacts.service import ArtifactService
from services.gateway.page_bundle import ConsoleSettingsDep

router = APIRouter(prefix="/v1/jobs/{job_id}/artifacts", tags=["artifacts"])

_E = ErrorCode


ArtifactServiceDep = Annotated[ArtifactService, from_app_state("artifacts")]
JobFilesDep = Annotated[JobFiles, from_app_state("job_files")]
ArtifactPagesDep = Annotated[ArtifactPages, from_app_state("artifact_pages")]


class ArtifactObject(Artifact):
    """One file, and where it can be read."""

    url: str = Field(
        description="Path under this server, which redirects to the file, or shows it if it is an HTML page. Needs the "
        "API key."
    )
    presigned_url: str | None = Field(
        default=None,
        description="With `presign`: address in the bucket, which needs no API key until `presigned_until`. Null for "
        "an HTML page, whose links work under `url` only.",
    )


class NewLink(RequestBody):
    """Lifetime of a link."""

    expires_in_s: int = Field(default=3600, ge=60, le=86_400)


class ArtifactLink(BaseModel):
    """Address that opens a file in any browser, without an API key."""

    url: str = Field(
        description="Path under this server: of an HTML page with the other files of its folder, of another file alone."
    )
    expires_at: datetime | None = Field(description="Null on a server without API keys, where it does not end.")


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
    presigned_until: datetime | None = Field(default=None, description="When presigned addresses end.")
    artifacts: list[ArtifactObject]


@router.get("", summary="List a job's artifacts", responses=problem_responses(
    _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
))  # fmt: skip
async def list_artifacts(
    caller: Reader,
    job_id: JobId,
    files: JobFilesDep,
    *,
    name: Annotated[
        list[str] | None, Query(max_length=100, description="Only files with these names. May be repeated.")
    ] = None,
    presign: Annotated[bool, Query(description="Give each file an address in the bucket too, for an hour.")] = False,
) -> ArtifactList:
    """Return the manifest; before the job's end, the artifacts published so far, each with its addresses.

    A page reads files with `fetch` by these addresses: it cannot see where a redirect leads.
    """
    until = datetime.now(UTC) + timedelta(seconds=PRESIGNED_URL_S) if presign else None
    async with files.of(caller.tenant, job_id) as (job, artifacts):
        manifest = await artifacts.manifest(job)
        listed = manifest.artifacts if manifest else artifacts.published(job)
        chosen = [file for file in listed if name is None or file.name in name]
        found = [
            ArtifactObject(
                **file.model_dump(),
                url=f"/v1/jobs/{job.id}/artifacts/{quote(file.name)}",
                presigned_url=await artifacts.presigned(job, file) if presign else None,
            )
            for file in chosen
        ]
    if manifest:
        return ArtifactList(
            complete=True, **manifest.model_dump(exclude={"artifacts"}), artifacts=found, presigned_until=until
        )
    return ArtifactList(
        complete=False,
        job_id=job.id,
        tenant=job.tenant,
        workload=job.submitted.workload,
        workload_version=job.submitted.workload_version,
        attempt=job.attempt,
        run_id=job.run_id,
        artifacts=found,
        presigned_until=until,
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
    files: JobFilesDep,
    artifacts: ArtifactServiceDep,
    pages: ArtifactPagesDep,
    settings: ConsoleSettingsDep,
) -> RedirectResponse:
    """Redirect to the file; names may contain slashes, and `manifest.json` is a valid name."""
    location = await files.locate(caller.tenant, job_id, name)
    if location.is_page:
        address = pages.address(caller, job_id, name, datetime.now(UTC))
        # Browsers follow it from the address that a reverse proxy has shown them.
        return _redirect(settings.public_path + address.removeprefix("/"))
    return _redirect(await artifacts.presign(location, head=_is_head(request)))


@router.post(
    "/{name:path}/link",
    status_code=201,
    summary="Create a link to an artifact",
    responses=problem_responses(
        _E.JOB_NOT_FOUND, _E.ARTIFACT_NOT_FOUND, _E.ARTIFACTS_NOT_READY, _E.STORAGE_UNAVAILABLE
    ),
)
async def create_link(
    response: Response,
    caller: Reader,
    job_id: JobId,
    name: str,
    *,
    files: JobFilesDep,
    pages: ArtifactPagesDep,
    body: NewLink | None = None,
) -> ArtifactLink:
    """Return an address that opens in every browser until it expires, or until the key that made it is removed.

    The address in the bucket that it leads to is valid for an hour at most, and no longer than the link.
    """
    location = await files.locate(caller.tenant, job_id, name)
    lifetime = timedelta(seconds=(body or NewLink()).expires_in_s)
    response.headers["Cache-Control"] = "no-store"
    url, expires_at = pages.link(caller, job_id, name, datetime.now(UTC), lifetime, is_page=location.is_page)
    return ArtifactLink(url=url, expires_at=expires_at)


# Beside the routes above, which take a name with slashes.
page_router = APIRouter(prefix="/v1/jobs/{job_id}/pages", include_in_schema=False)


@page_router.get("/{ticket}/{name:path}")
async def show_page(
    request: Request,
    job_id: JobId,
    ticket: str,
    name: str,
    *,
    files: JobFilesDep,
    artifacts: ArtifactServiceDep,
    pages: ArtifactPagesDep,
) -> Response:
    """Return a page; redirect to the bucket for all other files, which the page shows or links to."""
    caller, lifetime = pages.admit(request.headers, job_id, ticket, name, datetime.now(UTC))
    location = await files.locate(caller.tenant, job_id, name)
    if location.is_page:
        return await pages.response(caller.tenant, location, head=_is_head(request))
    return _redirect(await artifacts.presign(location, head=_is_head(request), within=lifetime))


def _is_head(request: Request) -> bool:
    """Return whether the client asks for the head only: a URL that is presigned for GET is refused then."""
    return bool(request.scope.get(IS_HEAD))


def _redirect(url: str) -> RedirectResponse:
    return RedirectResponse(url, status_code=307, headers={"Cache-Control": "no-store"})
