"""Videos of the page: each is an upload with what the page said of it, and at most one job of ``badminton``."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode_at
from contracts.ids import is_id
from contracts.job import Job
from contracts.streams import aggregate
from contracts.upload import Upload, UploadState
from kit.bus.event_store import EventStore
from kit.bus.idempotency import idempotency_key
from modal_workers import catalog
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.view import GatewayView
from services.gateway.compat.badminton.videos.keypoints import Keypoints
from services.gateway.compat.badminton.videos.video_log import LOG_ENTRIES, job_entries, newest
from services.gateway.compat.badminton.videos.video_records import AnalysisMode, VideoRecord, VideoRecords
from services.gateway.compat.badminton.videos.video_rows import Progress, Video
from services.gateway.jobs.latest_progress import LatestJobProgress
from services.gateway.jobs.presenter import JobPresenter
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import JobRequest
from services.gateway.uploads.service import UploadService

WORKLOAD: Final = "badminton"
_INPUT: Final = "video"
_ROUTE: Final = "badminton videos:processVideo"
_LISTED: Final = 50
_CACHE_SIZE: Final = 500


class Videos:
    """Operations on videos. All are tenant-scoped."""

    def __init__(
        self,
        *,
        uploads: UploadService,
        jobs: JobService,
        presenter: JobPresenter,
        progress: LatestJobProgress,
        view: GatewayView,
        store: EventStore,
        records: VideoRecords,
    ) -> None:
        """Read jobs and uploads from ``view``, and the events of a job from ``store``."""
        self._uploads, self._jobs, self._view, self._store = uploads, jobs, view, store
        self._presenter, self._progress, self._records = presenter, progress, records
        #: By job: sequence of the last event that was read, and the entries so far.
        self._logs: OrderedDict[str, tuple[int, list[dict[str, Any]]]] = OrderedDict()
        #: By video: why the last attempt to submit its job failed.
        self._refusals: OrderedDict[str, str] = OrderedDict()

    async def find(self, tenant: str, video_id: str) -> Video | None:
        """Return a video; None if there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        upload = await self._upload(tenant, video_id)
        return None if upload is None else await self._video(upload)

    async def get(self, tenant: str, video_id: str) -> Video:
        """Return a video.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        video = await self.find(tenant, video_id)
        if video is None:
            raise _not_found()
        return video

    async def of_newest_jobs(self, tenant: str) -> list[Video]:
        """Return the videos of the newest jobs, newest first.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        jobs, _ = self._view.jobs(tenant, JobFilter(workload=WORKLOAD), limit=_LISTED)
        ids = dict.fromkeys(used.upload_id for job in jobs for used in job.submitted.inputs.get(_INPUT, []))
        found = [await self.find(tenant, video_id) for video_id in ids]
        return [video for video in found if video is not None]

    async def create(
        self, tenant: str, storage_id: str, *, filename: str, size: float, analysis_mode: AnalysisMode
    ) -> str:
        """Store what the page says of an uploaded file, once, and return the video's id: that of the upload.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        upload = await self._upload(tenant, storage_id)
        if upload is None:
            raise _not_found()
        if await self._records.record(tenant, upload.id) is None:
            record = VideoRecord(
                filename=filename, size=size, analysis_mode=analysis_mode, created_at=datetime.now(UTC)
            )
            await self._records.keep_record(tenant, upload.id, record)
        return upload.id

    async def set_keypoints(self, tenant: str, video_id: str, keypoints: Keypoints) -> bool:
        """Store the points of the court; return whether the video's job will use them: it is not submitted yet.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        video = await self.get(tenant, video_id)
        await self._records.keep_keypoints(tenant, video_id, keypoints, datetime.now(UTC))
        return video.job is None

    async def process(self, tenant: str, video_id: str) -> None:
        """Submit the video's job, unless it has one: the page asks again whenever it is loaded.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND; as ``JobService.submit``.
        """
        self._records.forget(tenant, video_id)
        video = await self.get(tenant, video_id)
        if video.job is not None:
            return
        params: dict[str, Any] = {"mode": video.record.analysis_mode, "video_id": video_id}
        if video.keypoints:
            params["court_keypoints"] = video.keypoints.keypoints
        request = JobRequest(
            workload=WORKLOAD, inputs={_INPUT: video_id}, params=params, metadata={"video": video.record.filename[:200]}
        )
        # The view forgets a job only together with its upload; the key holds until every gateway's view has the job.
        key = idempotency_key(tenant, _ROUTE, video_id, {})
        try:
            await self._jobs.submit(tenant, request, key)
        except SaccadeError as error:
            self._refusals[video_id] = error.message
            if len(self._refusals) > _CACHE_SIZE:
                self._refusals.popitem(last=False)
            raise
        self._refusals.pop(video_id, None)

    async def delete(self, tenant: str, video_id: str) -> None:
        """Delete a video; the results of its job stay until they expire. Idempotent.

        Raises:
            SaccadeError: UPLOAD_IN_USE; BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if await self._upload(tenant, video_id) is not None:
            await self._uploads.delete(tenant, video_id)
            await self._records.delete(tenant, video_id)

    async def log(self, video: Video) -> list[dict[str, Any]]:
        """Return the newest entries about a video's job, oldest first.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        job = video.job
        if job is None:
            return []
        stages = catalog.workload(WORKLOAD).stages
        after, entries = self._logs.get(job.id, (job.first_sequence - 1, []))
        if after < job.sequence:
            async for stored in self._store.history(after, aggregate(job.tenant, "job", job.id)):
                entries = newest(
                    [*entries, *job_entries(decode_at(stored.subject, stored.body), stored.sequence, stages)]
                )
                after = stored.sequence
            self._logs[job.id] = (after, entries)
            self._logs.move_to_end(job.id)
            if len(self._logs) > _CACHE_SIZE:
                self._logs.popitem(last=False)
        return entries[-LOG_ENTRIES:]

    def count(self, tenant: str) -> dict[str, int]:
        """Return the number of jobs by state."""
        return self._view.count_jobs_of(tenant, WORKLOAD)

    async def _upload(self, tenant: str, video_id: str) -> Upload | None:
        """Return a completed upload; None if there is none with this id."""
        if not is_id(video_id, "upl"):
            return None
        try:
            upload = await self._uploads.get(tenant, video_id)
            if upload.state is UploadState.CREATED:  # another gateway may have completed it a moment ago
                upload = await self._uploads.get(tenant, video_id, fresh=True)
        except SaccadeError as error:
            if error.code is ErrorCode.UPLOAD_NOT_FOUND:
                return None
            raise
        return upload if upload.state is UploadState.COMPLETED else None

    async def _video(self, upload: Upload) -> Video:
        record = await self._records.record(upload.tenant, upload.id) or VideoRecord(
            filename=upload.created.filename,
            size=upload.created.size_bytes,
            analysis_mode="full",
            created_at=upload.created_at,
        )
        keypoints = await self._records.keypoints(upload.tenant, upload.id)
        job = self._view.first_job_of(upload.tenant, upload.id, WORKLOAD)
        progress = Progress() if job is None else await self._progress_of(job)
        return Video(upload, record, keypoints, job, progress, self._refusals.get(upload.id))

    async def _progress_of(self, job: Job) -> Progress:
        fraction = (await self._presenter.full(job)).progress
        newest_progress = self._progress.known(job)
        if newest_progress is None:
            return Progress(fraction)
        return Progress(fraction, newest_progress.frame, newest_progress.frame_count)


def _not_found() -> SaccadeError:
    hint = (
        "Send the id that videos:createVideo returned; a video that was deleted or has expired must be uploaded again."
    )
    return SaccadeError(ErrorCode.UPLOAD_NOT_FOUND, "Video not found", hint=hint)
