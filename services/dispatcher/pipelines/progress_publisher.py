"""Tells how far each running pipeline is: as an event, at most twice a second, and as a file beside its results.

Off the path on which jobs are brought further: a bucket that takes its time delays nobody.
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
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.pipelines import stage_plan as rules
from services.dispatcher.pipelines.pipeline_progress import PROGRESS_NAME, Pace, Progress, document, roll_up
from services.dispatcher.pipelines.stage_plan import StageNow

log = logging.getLogger(__name__)

_EVERY_S: Final = 0.5
_FILE_EVERY_S: Final = 2.0
#: Files on their way at once; those beyond wait, and only the newest of each pipeline.
_FILES_AT_ONCE: Final = 8


@dataclass
class _Pipeline:
    """What was told of one pipeline."""

    needed: list[tuple[Stage, int]]
    pace: Pace
    stages: list[StageNow] = field(default_factory=list)
    progress: Progress | None = None
    told_s: float = float("-inf")
    file_s: float = float("-inf")
    file_stage: str = ""
    #: The newest file that is not written yet, and who writes.
    body: bytes | None = None
    writing: asyncio.Task[None] | None = None


class PipelineTeller:
    """Tells of pipelines while its dispatcher leads."""

    def __init__(self, client: Client, bucket: Bucket, jobs: Jobs, workloads: Mapping[str, Workload]) -> None:
        """Read from ``jobs`` what is told."""
        self._client = client
        self._bucket = bucket
        self._jobs = jobs
        self._pipelines = {name: one for name, one in workloads.items() if one.kind == "pipeline"}
        self._known: dict[str, _Pipeline] = {}
        self._room = asyncio.Semaphore(_FILES_AT_ONCE)

    async def run(self) -> None:
        """Tell until cancelled."""
        self._known.clear()  # another dispatcher may have led since
        while True:
            for job in self._jobs:
                if job.state is State.RUNNING and job.submitted.workload in self._pipelines:
                    try:
                        await self._tell(job)
                    except Exception:  # what is told is advisory; the pipeline goes on
                        log.exception("how far %s is could not be told", job.id)
            await asyncio.sleep(_EVERY_S)

    def ended(self, job: Job) -> None:
        """Leave the file of a pipeline that has ended as it stays, after whatever is on its way."""
        if (known := self._known.pop(job.id, None)) and known.progress:
            self._write(job, known)

    async def _tell(self, job: Job) -> None:
        known = self._known.get(job.id) or self._meet(job)
        if known is None:
            return
        if known.pace.run_id != job.run_id:
            known.pace = Pace(job.run_id)
        now_s = asyncio.get_running_loop().time()
        known.stages = [
            StageNow(stage, tuple(self._jobs.part(job_id) for job_id in rules.job_ids(job.id, stage, shards)))
            for stage, shards in known.needed
        ]
        now = roll_up(known.stages, self._jobs.heard)
        now = Progress(now.stage, known.pace.take(now.fraction, now_s), now.stage_fraction, now.message)
        if now != known.progress or now_s - known.told_s >= WORKER_HEARTBEAT_S:
            known.progress, known.told_s = now, now_s
            await self._publish(job, now, known.pace.eta_s())
        if now.stage != known.file_stage or now_s - known.file_s >= _FILE_EVERY_S:
            known.file_s, known.file_stage = now_s, now.stage
            self._write(job, known)

    def _meet(self, job: Job) -> _Pipeline | None:
        workload = self._pipelines[job.submitted.workload]
        try:
            needed = rules.shards_of(workload, workload.params.model_validate(job.submitted.params))
        except (ValidationError, ValueError):
            return None  # its end is decided elsewhere
        self._known[job.id] = _Pipeline(needed, Pace(job.run_id))
        return self._known[job.id]

    async def _publish(self, job: Job, now: Progress, eta_s: float | None) -> None:
        assert job.run_id
        data = JobProgressed(attempt=job.attempt, run_id=job.run_id, eta_s=eta_s, **vars(now))
        message = encode(data, tenant=job.tenant, subject_id=job.id, source=SOURCE)
        await self._client.publish(message.subject, message.body)

    # ---- the file

    def _write(self, job: Job, known: _Pipeline) -> None:
        assert known.progress
        known.body = document(job, known.stages, known.progress, utc_now(), eta_s=known.pace.eta_s())
        if known.writing is None or known.writing.done():
            key = self._bucket.key("results", job.id, PROGRESS_NAME)
            known.writing = asyncio.create_task(self._write_newest(key, known))

    async def _write_newest(self, key: str, known: _Pipeline) -> None:
        async with self._room:
            while (body := known.body) is not None:
                known.body = None
                try:
                    await self._bucket.put(key, body)
                except SaccadeError as error:
                    log.warning("%s is left as it was: %s", key, error.message)
