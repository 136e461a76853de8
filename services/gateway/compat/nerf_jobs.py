"""Jobs of the workload ``nerf`` from requests in the format of the replaced product-photo service."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_id
from contracts.invalid_values import pointer
from contracts.limits import IDEMPOTENCY_KEY_CHARS
from kit.bucket import Bucket
from kit.bus.idempotency import idempotency_key
from kit.http.request_body import RequestBody
from modal_workers import catalog
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import JobRequest
from services.gateway.settings import CompatNerfSettings, GatewaySettings
from services.gateway.uploads.service import UploadService

_ROUTE: Final = "POST /api/nerf/colmap"
_WORKLOAD: Final = "nerf"
#: An upload's bucket key contains its id as a folder.
_UPLOAD_ID_IN_KEY: Final = re.compile(r"(?:^|/)(upl_[0-9a-f-]{36})(?:/|$)")
#: Inputs of the workload that are not filled from photos.
_NOT_PHOTOS: Final = frozenset({"masks"})


class ColmapRequest(RequestBody):
    """Photos of one product, uploaded before."""

    model_config = ConfigDict(extra="ignore")

    job_id: str = Field(min_length=1, max_length=200, description="Your own name of the job; stored as metadata.")
    image_paths: list[str] = Field(
        min_length=1,
        max_length=500,
        description="Ids of uploads, or their keys in the bucket: photos, or one ZIP or video.",
    )


class ColmapAnswer(BaseModel):
    """The job that was submitted."""

    success: bool = True
    job_id: str = Field(description="As sent in the request.")
    id: str = Field(description="Id of the job: GET /v1/jobs/{id} returns its state.")
    status: str
    progress: str = Field(description="Bucket key of the job's progress file.")


class NerfJobs:
    """Submits jobs on behalf of clients of the replaced service."""

    def __init__(
        self,
        jobs: JobService,
        uploads: UploadService,
        bucket: Bucket,
        settings: GatewaySettings,
        compat_settings: CompatNerfSettings,
    ) -> None:
        """``compat_settings`` are the settings of the replaced service."""
        self._jobs, self._uploads, self._bucket = jobs, uploads, bucket
        self._settings, self._compat_settings = settings, compat_settings

    async def submit(self, tenant: str, body: ColmapRequest) -> ColmapAnswer:
        """Submit a job with the photos of a request.

        Raises:
            SaccadeError: the request is invalid; BUS_UNAVAILABLE.
        """
        inputs: dict[str, Any] = {}
        for index, path in enumerate(body.image_paths):
            upload_id = _upload_id(path, index)
            inputs.setdefault(await self._input_name(tenant, upload_id, index), []).append(upload_id)
        compat = self._compat_settings
        on_modal = self._settings.effective_executor == "modal"
        job_request = JobRequest(
            workload=_WORKLOAD,
            inputs=inputs,
            params={} if compat.default_iterations is None else {"iterations": compat.default_iterations},
            gpu=compat.gpu(self._settings.environment) if on_modal else None,
            gpu_fallback=True,
            metadata={"job_id": body.job_id},
        )
        key = idempotency_key(tenant, _ROUTE, _ascii(body.job_id), body.model_dump())
        job = await self._jobs.submit(tenant, job_request, key)
        progress_key = self._bucket.key("results", job.id, "progress.json")
        return ColmapAnswer(job_id=body.job_id, id=job.id, status=str(job.state), progress=progress_key)

    async def _input_name(self, tenant: str, upload_id: str, index: int) -> str:
        """Return the input for an upload's media; for an incomplete upload that of photos, which then rejects it.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, WRONG_INPUT_MEDIA.
        """
        upload = await self._uploads.get(tenant, upload_id)
        media = upload.completed.media.media if upload.completed else "image"
        for declaration in catalog.workload(_WORKLOAD).inputs:
            if declaration.media == media and declaration.name not in _NOT_PHOTOS:
                return declaration.name
        raise _at(index, ErrorCode.WRONG_INPUT_MEDIA, f"{upload_id} is of type {media}.")


def _upload_id(path: str, index: int) -> str:
    """Return the id of the upload in a path.

    Raises:
        SaccadeError: UPLOAD_NOT_FOUND.
    """
    found = _UPLOAD_ID_IN_KEY.search(path)
    if found and is_id(found[1], "upl"):
        return found[1]
    raise _at(index, ErrorCode.UPLOAD_NOT_FOUND, f"{path[:200]!r} does not contain the id of an upload.")


def _ascii(job_id: str) -> str:
    """Return a name in the form of an Idempotency-Key; different names have different ones."""
    text = job_id.encode("unicode_escape").decode()
    plain = len(text) <= IDEMPOTENCY_KEY_CHARS and text == text.strip(" ")
    return text if plain else hashlib.sha256(text.encode()).hexdigest()


def _at(index: int, code: ErrorCode, message: str) -> SaccadeError:
    where = [{"detail": message, "pointer": pointer(("image_paths", index))}]
    return SaccadeError(code, message, hint="Upload each file by POST /v1/uploads first and send its id.", errors=where)
