"""Jobs of the workloads ``lap_compare`` and ``lap_detection`` for clients of the replaced lap comparison."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job, State
from contracts.limits import UNSIZED_PUT_BYTES
from kit.bucket import Bucket
from kit.bus.idempotency import idempotency_key
from services.gateway.artifacts.service import ArtifactService
from services.gateway.compat.laps.found_laps import found_laps
from services.gateway.compat.laps.requests import LapPair, LapSearch, LapSegments, LapUpload, SentFile
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import JobRequest
from services.gateway.uploads.service import UploadService

WORKLOAD: Final = "lap_compare"
DETECTION: Final = "lap_detection"
_ROUTE: Final = "POST /start-job"
_DETECT_ROUTE: Final = "POST /detect-laps"
#: Files of a job by the names under which its clients look for them.
_FILES: Final = {
    "overlay.mp4": "overlay.mp4",
    "metrics.csv": "compat/metrics.csv",
    "insights.json": "compat/insights.json",
}


class LapJobs:
    """Operations of the routes. All are tenant-scoped."""

    def __init__(
        self,
        *,
        uploads: UploadService,
        jobs: JobService,
        presenter: JobPresenter,
        artifacts: ArtifactService,
        bucket: Bucket,
    ) -> None:
        """Sign URLs of ``bucket``, to which clients send their files."""
        self._uploads, self._jobs, self._presenter = uploads, jobs, presenter
        self._artifacts, self._bucket = artifacts, bucket

    async def sign_upload(self, tenant: str, request: LapUpload) -> dict[str, str]:
        """Create an upload without a size, and return where its file is sent to.

        Raises:
            SaccadeError: as ``UploadService.create``.
        """
        upload = await self._uploads.create(
            tenant,
            filename=request.filename,
            content_type=request.content_type,
            size_bytes=None,
            sha256=None,
            multipart=False,
            key=None,
            reserved_bytes=UNSIZED_PUT_BYTES,
        )
        key = upload.created.key
        return {
            "bucket": self._bucket.name,
            "key": key,
            # The client sends the content type as it has said it, so this is what is signed.
            "put_url": await self._bucket.presign_put(key, request.content_type),
            "get_url": await self._bucket.presign_get(key, content_type=upload.created.content_type),
        }

    async def start(self, tenant: str, request: LapPair | LapSegments) -> dict[str, str]:
        """Complete the uploads, submit their job, and return its ids.

        The same files and segments give the same job; one that has failed or was cancelled gets another attempt.

        Raises:
            SaccadeError: an upload cannot be used; as ``JobService.submit``.
        """
        ids = await self._completed(tenant, *request.files)
        inputs = dict(zip(("reference", "other"), ids, strict=True))
        job = await self._submit(tenant, JobRequest(WORKLOAD, inputs, request.params), _ROUTE)
        return {
            "job_id": job.id,
            "call_id": job.id,
            "results_prefix": self._bucket.key("results", job.id) + "/",
        }

    async def detect(self, tenant: str, request: LapSearch) -> str:
        """Complete the upload, submit the job that looks for its laps, and return its id.

        The same request gives the same job, as ``start`` does.

        Raises:
            SaccadeError: the upload cannot be used; as ``JobService.submit``.
        """
        [upload_id] = await self._completed(tenant, request.video)
        return (
            await self._submit(tenant, JobRequest(DETECTION, {"video": upload_id}, request.params), _DETECT_ROUTE)
        ).id

    async def detected(self, tenant: str, job_id: str, most: int, wait_s: float) -> dict[str, Any] | None:
        """Wait for a job of ``detect`` and return at most ``most`` laps, the best first; None if it still runs.

        Raises:
            SaccadeError: the job has failed, with its error, or was cancelled; JOB_NOT_FOUND.
        """
        job = await self._jobs.get(tenant, job_id, wait_s)
        match job.state:
            case State.SUCCEEDED:
                return found_laps(job.result or {}, most)
            case State.FAILED:
                error = job.error
                if error is None:
                    raise SaccadeError(ErrorCode.WORKER_BROKEN)
                raise SaccadeError(error.code, error.message, hint=error.hint)
            case State.CANCELLED:
                message = "The lap detection was cancelled."
                raise SaccadeError(ErrorCode.JOB_ALREADY_ENDED, message, hint="Send the request again.")
        return None

    async def status(self, tenant: str, call_id: str) -> dict[str, Any]:
        """Return the state of a job in the client's words, with its files when it has succeeded.

        A client stops polling at ``finished`` and ``failed`` only, so a cancelled job has failed.

        Raises:
            SaccadeError: JOB_NOT_FOUND; ARTIFACT_NOT_FOUND, if its files have expired; STORAGE_UNAVAILABLE.
        """
        job = await self._jobs.read(tenant, call_id)
        if job.submitted.workload != WORKLOAD:
            raise SaccadeError(ErrorCode.JOB_NOT_FOUND)
        match job.state:
            case State.SUCCEEDED:
                return {"status": "finished", "result": await self._result(job)}
            case State.FAILED:
                failed = job.error
                return {"status": "failed", "error": failed.message if failed else "The job has failed."}
            case State.CANCELLED:
                return {"status": "failed", "error": "The job was cancelled."}
        return {"status": "running"}

    async def _completed(self, tenant: str, *files: SentFile) -> list[str]:
        """Complete the uploads of files, each once, and return their ids."""
        ids = [file.upload_id for file in files]
        await asyncio.gather(*(self._uploads.complete(tenant, upload_id) for upload_id in dict.fromkeys(ids)))
        return ids

    async def _submit(self, tenant: str, request: JobRequest, route: str) -> Job:
        body = {"inputs": request.inputs, "params": request.params}
        key = idempotency_key(tenant, route, _digest(body), body)
        return await self._jobs.retry_once(tenant, await self._jobs.submit(tenant, request, key))

    async def _result(self, job: Job) -> dict[str, Any]:
        manifest = await self._artifacts.manifest(job)
        names = {artifact.name for artifact in manifest.artifacts} if manifest else set()
        files = {}
        for name, ours in _FILES.items():
            if ours in names:  # jobs of earlier versions lack some
                location = await self._artifacts.locate(job, ours)
                url = await self._artifacts.presign(location)
                files[name] = {"bucket": self._bucket.name, "key": location.key, "url": url}
        return {
            "job_id": job.id,
            "summary": (await self._presenter.full(job)).headline or "",
            "artifacts": files,
            "manifest_key": job.manifest_key,
        }


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
