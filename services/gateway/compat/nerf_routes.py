"""The call by which the product-photo service that this one replaces was asked for frames, as a job of ``nerf``."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_id
from contracts.workload import Input
from kit.auth.principal import Writer
from kit.bus.idempotency import idempotency_key
from kit.http.problems import pointer, problem_responses
from modal_workers import catalog
from services.gateway.dependencies import gateway_of
from services.gateway.jobs.service import JobRequest

router = APIRouter(tags=["replaced"])

_E = ErrorCode
_ROUTE: Final = "POST /api/nerf/colmap"
_WORKLOAD: Final = "nerf"
#: A bucket key of ours holds the upload's id as one of its folders.
_IN_KEY: Final = re.compile(r"(?:^|/)(upl_[0-9a-f-]{36})(?:/|$)")
#: Which of the workload's inputs takes which media; what is sent for masks is no photo.
_NOT_PHOTOS: Final = frozenset({"masks"})


class ColmapRequest(BaseModel):
    """Photos of one product, uploaded before."""

    model_config = ConfigDict(extra="ignore")

    job_id: str = Field(min_length=1, max_length=200, description="The caller's own name for it; kept as metadata.")
    image_paths: list[str] = Field(
        min_length=1,
        max_length=500,
        description="Ids of uploads, or their keys in the bucket: photos, or one ZIP or video.",
    )


class ColmapAnswer(BaseModel):
    """The job that was submitted."""

    success: bool = True
    job_id: str = Field(description="As it was sent.")
    id: str = Field(description="The job of this server: GET /v1/jobs/{id} says how it is.")
    status: str
    progress: str = Field(description="Key of the file that says how far it is, under the bucket's prefix.")


@router.post(
    "/api/nerf/colmap",
    status_code=202,
    summary="Have a product's photos made into frames",
    responses=problem_responses(
        _E.UPLOAD_NOT_FOUND,
        _E.UPLOAD_NOT_COMPLETED,
        _E.WRONG_INPUT_MEDIA,
        _E.INVALID_PARAMETER,
        _E.IDEMPOTENCY_KEY_REUSED,
    ),
)
async def nerf_from_images(request: Request, response: Response, caller: Writer, body: ColmapRequest) -> ColmapAnswer:
    """Submit a job of the workload `nerf`; the same `job_id` with the same photos gives the same job."""
    gateway = gateway_of(request)
    inputs: dict[str, Any] = {}
    for number, path in enumerate(body.image_paths):
        upload_id = _upload_of(path, number)
        inputs.setdefault(await _input_of(request, caller.tenant, upload_id, number), []).append(upload_id)
    settings = gateway.replaced_nerf
    wanted = JobRequest(
        workload=_WORKLOAD,
        inputs=inputs,
        params={} if settings.default_iterations is None else {"iterations": settings.default_iterations},
        gpu=settings.gpu(gateway.settings.environment) if gateway.settings.where == "modal" else None,
        metadata={"job_id": body.job_id},
    )
    key = idempotency_key(caller.tenant, _ROUTE, _key(body.job_id), body.model_dump())
    job = await gateway.jobs.submit(caller.tenant, wanted, key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    progress = gateway.bucket.key("results", job.id, "progress.json")
    return ColmapAnswer(job_id=body.job_id, id=job.id, status=str(job.state), progress=progress)


def _upload_of(path: str, number: int) -> str:
    """Read which upload a path names.

    Raises:
        SaccadeError: UPLOAD_NOT_FOUND.
    """
    found = _IN_KEY.search(path)
    if found and is_id(found[1], "upl"):
        return found[1]
    raise _at(number, ErrorCode.UPLOAD_NOT_FOUND, f"{path[:200]!r} names no upload.")


async def _input_of(request: Request, tenant: str, upload_id: str, number: int) -> str:
    """Name the input that takes an upload of this media; the photos' for one that is not complete, which is refused."""
    upload = await gateway_of(request).uploads.get(tenant, upload_id)
    media = upload.completed.media.media if upload.completed else "image"
    declared = [one for one in catalog.workload(_WORKLOAD).inputs if one.name not in _NOT_PHOTOS]
    taking: list[Input] = [one for one in declared if one.media == media]
    if not taking:
        raise _at(number, ErrorCode.WRONG_INPUT_MEDIA, f"{upload_id} is of type {media}.")
    return taking[0].name


def _key(job_id: str) -> str:
    """Write a caller's name so that it can be an idempotency key: printable ASCII."""
    return job_id.encode("unicode_escape").decode()[:255]


def _at(number: int, code: ErrorCode, message: str) -> SaccadeError:
    where = [{"detail": message, "pointer": pointer(("image_paths", number))}]
    return SaccadeError(code, message, hint="Upload each file by POST /v1/uploads first and send its id.", errors=where)
