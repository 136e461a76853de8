"""Publisher of the progress of running pipelines: an event at most twice a second, and a file beside the results.

It runs apart from the reconciliation of jobs, which a slow bucket must not delay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client
from pydantic import ValidationError

from contracts.errors import SaccadeError
from contracts.events.base import encode
from contracts.events.job import JobProgressed
from contracts.job import Job, State
from contracts.limits import WORKER_HEARTBEAT_S
from contracts.workload import Stage, Workload
from kit.bucket import Bucket
from services.dispatcher.jobs.job_repository import SOURCE, utc_now
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.pipelines import stage_plan as plan
from services.dispatcher.pipelines.pipeline_progress import (
    PROGRESS_NAME,
    PipelineProgress,
    ProgressHistory,
    progress_document,
    roll_up,
)
from services.dispatcher.pipelines.stage_plan import StageSnapshot

log = logging.getLogger(__name__)

_EVENT_INTERVAL_S: Final = 0.5
_FILE_INTERVAL_S: Final = 2.0
#: Interval of the event of a pipeline none of whose stages has a worker; its file is not written again meanwhile.
_WAITING_INTERVAL_S: Final = 30.0
#: Concurrent uploads; a pipeline whose upload has to wait keeps only its newest file.
_CONCURRENT_UPLOADS: Final = 8


@dataclass
class _Publication:
    """State of the publication of one pipeline."""

    needed: list[tuple[Stage, int]]
    history: ProgressHistory
    stages: list[StageSnapshot] = field(default_factory=list)
    progress: PipelineProgress | None = None
    published_s: float = float("-inf")
    file_s: float = float("-inf")
    file_stage: str = ""
    #: What the file says, but for times.
    in_file: tuple[object, ...] = ()
    #: Newest file that is not uploaded yet, and the task that uploads.
    pending_file: bytes | None = None
    upload: asyncio.Task[None] | None = None


def _has_worker(stage_job: Job) -> bool:
    return stage_job.state in (State.STARTING, State.RUNNING)


class PipelineProgressPublisher:
    """Publisher of pipelines' progress, while its dispatcher leads."""

    def __init__(self, client: Client, bucket: Bucket, jobs: UnfinishedJobs, workloads: Mapping[str, Workload]) -> None:
        """Read the progress from ``jobs``."""
        self._client = client
        self._bucket = bucket
        self._jobs = jobs
        self._pipelines = {name: workload for name, workload in workloads.items() if workload.kind == "pipeline"}
        self._publications: dict[str, _Publication] = {}
        self._upload_slots = asyncio.Semaphore(_CONCURRENT_UPLOADS)

    async def run(self) -> None:
        """Publish until cancelled."""
        self._publications.clear()  # another dispatcher may have led since
        while True:
            for job in self._jobs:
                if job.state is State.RUNNING and job.submitted.workload in self._pipelines:
                    try:
                        await self._publish_progress(job)
                    except Exception:  # progress is advisory; the pipeline continues
                        log.exception("could not publish the progress of %s", job.id)
            await asyncio.sleep(_EVENT_INTERVAL_S)

    def on_ended(self, job: Job, document: bytes | None) -> None:
        """Write the final file of a pipeline that has ended, after pending uploads.

        It is ``document``, if that is known: what was read last may lack the end of the last stage.
        """
        if (publication := self._publications.pop(job.id, None)) and publication.progress:
            self._write_file(job, publication, document)

    async def _publish_progress(self, job: Job) -> None:
        publication = self._publications.get(job.id) or self._add(job)
        if publication is None:
            return
        if publication.history.run_id != job.run_id:
            publication.history = ProgressHistory(job.run_id)
        now_s = asyncio.get_running_loop().time()
        publication.stages = [
            StageSnapshot(stage, tuple(self._jobs.stage_job(job_id) for job_id in plan.job_ids(job.id, stage, shards)))
            for stage, shards in publication.needed
        ]
        current = roll_up(publication.stages, self._jobs.last_heartbeat)
        fraction = publication.history.add(current.fraction, now_s)
        progress = PipelineProgress(current.stage, fraction, current.stage_fraction, current.message)
        waits = not any(_has_worker(stage_job) for stage in publication.stages for stage_job in stage.submitted)
        interval_s = _WAITING_INTERVAL_S if waits else WORKER_HEARTBEAT_S
        if progress != publication.progress or now_s - publication.published_s >= interval_s:
            publication.progress, publication.published_s = progress, now_s
            await self._publish_event(job, progress, publication.history.eta_s())
        is_due = progress.stage != publication.file_stage or now_s - publication.file_s >= _FILE_INTERVAL_S
        said = (
            job.run_id,
            progress,
            *(stage_job.sequence for stage in publication.stages for stage_job in stage.submitted),
        )
        if is_due and not (waits and said == publication.in_file):
            publication.file_s, publication.file_stage, publication.in_file = now_s, progress.stage, said
            self._write_file(job, publication)

    def _add(self, job: Job) -> _Publication | None:
        workload = self._pipelines[job.submitted.workload]
        try:
            needed = plan.needed_stages(workload, workload.params.model_validate(job.submitted.params))
        except (ValidationError, ValueError):
            return None  # the lifecycle ends such a pipeline
        self._publications[job.id] = _Publication(needed, ProgressHistory(job.run_id))
        return self._publications[job.id]

    async def _publish_event(self, job: Job, progress: PipelineProgress, eta_s: float | None) -> None:
        assert job.run_id
        data = JobProgressed(attempt=job.attempt, run_id=job.run_id, eta_s=eta_s, **vars(progress))
        message = encode(data, tenant=job.tenant, subject_id=job.id, source=SOURCE, traceparent=job.traceparent)
        await self._client.publish(message.subject, message.body)

    # ---- the file

    def _write_file(self, job: Job, publication: _Publication, document: bytes | None = None) -> None:
        assert publication.progress
        publication.pending_file = document or progress_document(
            job, publication.stages, publication.progress, utc_now(), eta_s=publication.history.eta_s()
        )
        if publication.upload is None or publication.upload.done():
            key = self._bucket.key("results", job.id, PROGRESS_NAME)
            publication.upload = asyncio.create_task(self._upload_newest(key, publication))

    async def _upload_newest(self, key: str, publication: _Publication) -> None:
        async with self._upload_slots:
            while (body := publication.pending_file) is not None:
                publication.pending_file = None
                try:
                    await self._bucket.put(key, body)
                except SaccadeError as error:
                    log.warning("could not update %s: %s", key, error.message)
