"""Jobs of the workload ``nerf`` from requests in the format of the replaced product-photo service."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from pydantic import ConfigDict, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import is_id
from contracts.invalid_values import pointer
from contracts.job import Job
from contracts.limits import IDEMPOTENCY_KEY_CHARS
from kit.bucket import Bucket
from kit.bus.idempotency import idempotency_key
from kit.http.request_body import RequestBody
from modal_workers import catalog
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.job_texts import searchable
from services.gateway.compat.nerf.frames import batch_name, read_frame
from services.gateway.compat.nerf.photo_groups import PhotoGroups
from services.gateway.compat.nerf.requests import RenderRequest, TrainingRequest, ignored_rendering, ignored_training
from services.gateway.compat.nerf.views import (
    PosesStageStatus,
    RenderingStageStatus,
    TrainingStageStatus,
    poses_status,
    render_status,
    training_status,
)
from services.gateway.compat.upload_ids import upload_id_in
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import JobRequest
from services.gateway.jobs.url_inputs import has_urls
from services.gateway.jobs.url_jobs import UrlJobs
from services.gateway.settings import CompatNerfSettings, GatewaySettings
from services.gateway.uploads.service import UploadService

_ROUTE: Final = "POST /api/nerf/colmap"
_WORKLOAD: Final = "nerf"
_STAGE_PREFIX: Final = re.compile(r"^(?:colmap|train|render)_")
#: Pages of a search for a job's name; a page has those whose text contains it.
_SEARCHED_PAGES: Final = 5
#: Inputs of the workload that are not filled from photos.
_NOT_PHOTOS: Final = frozenset({"masks"})


class ColmapRequest(RequestBody):
    """Photos of one product, uploaded before."""

    model_config = ConfigDict(extra="ignore")

    job_id: str = Field(min_length=1, max_length=200, description="Your own name of the job; stored as metadata.")
    image_paths: list[str] | None = Field(
        None,
        min_length=1,
        max_length=500,
        description="Photos, or one ZIP or video: ids of uploads, paths or URLs that contain one, or URLs to fetch. "
        "Without it, `job_id` is that of POST /api/upload/photos.",
    )


class ColmapAnswer(PosesStageStatus):
    """The job that was submitted."""

    success: bool = True
    id: str = Field(description="Id of the job: GET /v1/jobs/{id} returns its state.")
    state: str
    progress_file: str = Field(description="Bucket key of the job's progress file.")


class NerfJobs:
    """Submits jobs on behalf of clients of the replaced service."""

    def __init__(
        self,
        jobs: JobService,
        url_jobs: UrlJobs,
        presenter: JobPresenter,
        *,
        uploads: UploadService,
        photo_groups: PhotoGroups,
        bucket: Bucket,
        settings: GatewaySettings,
        compat_settings: CompatNerfSettings,
    ) -> None:
        """``compat_settings`` are the settings of the replaced service."""
        self._jobs, self._url_jobs, self._presenter = jobs, url_jobs, presenter
        self._uploads, self._photo_groups, self._bucket = uploads, photo_groups, bucket
        self._settings, self._compat_settings = settings, compat_settings

    async def submit(self, tenant: str, body: ColmapRequest) -> ColmapAnswer:
        """Submit a job with the photos of a request.

        Raises:
            SaccadeError: the request is invalid; BUS_UNAVAILABLE.
        """
        inputs: dict[str, Any] = {}
        paths = body.image_paths
        if paths is None:
            paths = await self._photo_groups.usable(tenant, body.job_id)
        for index, path in enumerate(paths):
            upload_id = upload_id_in(path)
            if upload_id is not None:
                inputs.setdefault(await self._input_name(tenant, upload_id, index), []).append(upload_id)
            elif path.startswith(("https://", "http://")):
                inputs.setdefault("photos", []).append({"url": path})
            else:
                message = f"{path[:200]!r} does not contain the id of an upload."
                raise _at(index, ErrorCode.UPLOAD_NOT_FOUND, message)
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
        submit = self._url_jobs.submit if has_urls(inputs) else self._jobs.submit
        return await self.submitted(await submit(tenant, job_request, key), body.job_id)

    async def submitted(self, job: Job, name: str) -> ColmapAnswer:
        """Return the answer to a request for the job."""
        shown = await self._presenter.full(job)
        return ColmapAnswer(
            **poses_status(shown, name, self.folder(job)).model_dump(),
            id=job.id,
            state=str(job.state),
            progress_file=f"{self.folder(job)}/progress.json",
        )

    async def poses(self, job: Job, name: str) -> PosesStageStatus:
        """Return the state of the cameras' poses."""
        return poses_status(await self._presenter.full(job), name, self.folder(job))

    async def training(self, job: Job, name: str, wanted: TrainingRequest | None = None) -> TrainingStageStatus:
        """Return the state of the training; ``wanted`` is what a client asked for when it began."""
        shown = await self._presenter.full(job)
        return training_status(shown, name, self.folder(job), ignored_training(wanted, shown.params))

    async def rendering(self, job: Job, name: str, wanted: RenderRequest | None = None) -> RenderingStageStatus:
        """Return the state of the frames; ``wanted`` is what a client asked for when it began."""
        shown = await self._presenter.full(job)
        return render_status(shown, name, self.folder(job), ignored_rendering(wanted, shown.params))

    def folder(self, job: Job) -> str:
        """Return the folder of a job's files in the bucket."""
        return self._bucket.key("results", job.id)

    async def find(self, tenant: str, name: str) -> Job:
        """Return the newest job that a client calls so, or with ``colmap_``, ``train_`` or ``render_`` before it.

        Raises:
            SaccadeError: JOB_NOT_FOUND.
        """
        plain = _STAGE_PREFIX.sub("", name)
        for wanted in dict.fromkeys((name, plain)):
            if is_id(wanted, "job"):
                job = await self._jobs.get(tenant, wanted)
                if job.submitted.workload == _WORKLOAD:
                    return job
            text, cursor = searchable(f"job_id={wanted}"), None
            for _ in range(_SEARCHED_PAGES):
                found, cursor = await self._jobs.page(tenant, JobFilter(_WORKLOAD, text=text), cursor=cursor)
                for job in found:
                    if job.submitted.metadata.get("job_id") == wanted:
                        return job
                if cursor is None:
                    break
        raise SaccadeError(ErrorCode.JOB_NOT_FOUND, f"There is no job {name[:200]!r}.")

    async def retry(self, tenant: str, name: str) -> Job:
        """Start another attempt of a failed or cancelled job, which repeats what is missing; return any other job.

        Raises:
            SaccadeError: JOB_NOT_FOUND, SCRATCH_REMOVED, UPLOAD_NOT_FOUND, BACKEND_NOT_INSTALLED; BUS_UNAVAILABLE.
        """
        return await self._jobs.retry_once(tenant, await self.find(tenant, name))

    async def frame(self, tenant: str, name: str, number: int) -> bytes:
        """Return a frame as PNG, by its number from 1 on.

        Raises:
            SaccadeError: JOB_NOT_FOUND, ARTIFACT_NOT_FOUND; STORAGE_UNAVAILABLE.
        """
        job = await self.find(tenant, name)
        total = int(job.submitted.params["frames"])
        if not 1 <= number <= total:
            raise SaccadeError(ErrorCode.ARTIFACT_NOT_FOUND, f"The frames of this job are 1 to {total}.")
        key = self._bucket.key("results", job.id, batch_name(number - 1))
        return await read_frame(self._bucket, key, number - 1)

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


def _ascii(job_id: str) -> str:
    """Return a name in the form of an Idempotency-Key; different names have different ones."""
    text = job_id.encode("unicode_escape").decode()
    plain = len(text) <= IDEMPOTENCY_KEY_CHARS and text == text.strip(" ")
    return text if plain else hashlib.sha256(text.encode()).hexdigest()


def _at(index: int, code: ErrorCode, message: str) -> SaccadeError:
    where = [{"detail": message, "pointer": pointer(("image_paths", index))}]
    return SaccadeError(code, message, hint="Upload each file by POST /v1/uploads first and send its id.", errors=where)
