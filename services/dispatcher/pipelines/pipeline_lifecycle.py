"""Brings one pipeline one step further, by its stages' jobs: reads, decides by the pure rules, says so.

It launches nothing: what it submits, retries or asks the end of are jobs like all others. Each step begins from the
events of the pipeline and of its jobs alone, so that any dispatcher goes on where another one died.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.base import EVENT_CLASSES, EventData, decode_at
from contracts.events.job import (
    PIPELINE,
    FailureClass,
    JobArtifactReady,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
    PartOf,
)
from contracts.ids import new_id, pipeline_id_of, stage_job_id
from contracts.job import Job, State, fold, request_cancel, retry
from contracts.manifest import MANIFEST_NAME, Artifact, Manifest
from contracts.workload import Stage, Workload
from kit.bucket import Bucket
from kit.bus.event_store import Conflict, StoredEvent
from services.dispatcher.jobs.job_repository import Ledger
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.pipelines import stage_plan as rules
from services.dispatcher.pipelines.pipeline_progress import PROGRESS_NAME, Progress, document
from services.dispatcher.pipelines.stage_plan import StageNow, Told
from services.dispatcher.scheduling.requeue_after import Look, Outcome

log = logging.getLogger(__name__)

#: A pipeline whose jobs are under way is looked at again after this, whatever was heard of them.
_LOOK_S: Final = 2.0
_WORKER: Final = "dispatcher"


class Pipelines:
    """Steps of pipelines. One pipeline is stepped by one caller at a time."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        bucket: Bucket,
        jobs: Jobs,
        workloads: Mapping[str, Workload],
        on_end: Callable[[Job], None],
    ) -> None:
        """Bring together what a step needs; ``on_end`` is told of each pipeline that ends after it has run."""
        self._on_end = on_end
        self._ledger = ledger
        self._bucket = bucket
        self._jobs = jobs
        self._workloads = workloads
        #: What a pipeline has said, and as of which of its events.
        self._told: dict[str, tuple[int, Told]] = {}
        #: What ended jobs left, by pipeline and job, and as of which of the job's events.
        self._left: dict[str, dict[str, tuple[int, dict[str, Artifact]]]] = {}

    def forget(self, job_id: str) -> None:
        """Forget what was read of a pipeline that has ended."""
        self._told.pop(job_id, None)
        self._left.pop(job_id, None)

    async def wants(self, job: Job) -> bool:
        """Tell whether the pipeline of a stage's job is there and goes on, so that the job may begin.

        One whose submission was on its way while another dispatcher ended the pipeline would run for nobody.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        part = job.submitted.part_of
        if part is None:
            return True
        home = self._jobs.get(part.job_id) or await self._ledger.load_whole(part.job_id, job.tenant)
        return home is not None and (home.state.launching or home.state is State.RUNNING)

    async def start(self, job: Job) -> Job:
        """Begin an attempt of a pipeline."""
        run_id = new_id("run")
        starting = JobStarting(attempt=job.attempt + 1, run_id=run_id, executor=PIPELINE, device=PIPELINE)
        return await self._ledger.say(job, starting, event_id=f"{run_id}.starting")

    async def step(self, job: Job, workload: Workload) -> Outcome:
        """Bring a pipeline further that has begun an attempt.

        Raises:
            Conflict: it has moved on.
            NotLeading: somebody else may act.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if job.state is State.INTERRUPTED:
            return await self._settle(job)
        try:
            needed = rules.shards_of(workload, workload.params.model_validate(job.submitted.params))
        except (ValidationError, ValueError) as error:
            log.warning("%s cannot go on: %s", job.id, error)
            message = f"The stages of {workload.name} and this job's parameters do not fit together any more."
            failure = SaccadeError(ErrorCode.INVALID_PARAMETER, message).body()
            return await self._give_up(job, failure)
        if job.state.launching:
            stages = [await self._stage(job, *one) for one in needed]
            return await self._do(job, workload, stages, rules.before_running(job, stages))
        stages = []
        for one in needed:
            stages.append(await self._stage(job, *one))
            if not stages[-1].done:
                break
        told, left = await self._told_by(job), await self._left_by(job, stages)
        move = rules.while_running(job, stages, told, left, self._ledger.clock())
        return await self._do(job, workload, stages, move)

    # ---- what is known

    async def _stage(self, job: Job, stage: Stage, shards: int) -> StageNow:
        found = [
            self._jobs.part(job_id) or await self._ledger.load_whole(job_id, job.tenant)
            for job_id in rules.job_ids(job.id, stage, shards)
        ]
        return StageNow(stage, tuple(found))

    async def _told_by(self, job: Job) -> Told:
        sequence, told = self._told.get(job.id, (0, Told()))
        if sequence != job.sequence:
            told = _told(await self._ledger.history(job.id, job.tenant), job.sequence)
            self._told[job.id] = job.sequence, told
        return told

    async def _left_by(self, job: Job, stages: Sequence[StageNow]) -> dict[str, Artifact]:
        """Give what the jobs that have ended left, by name; of equal names the later stage's and shard's counts."""
        known = self._left.setdefault(job.id, {})
        left: dict[str, Artifact] = {}
        for one in (one for stage in stages for one in stage.known if one.state.ended):
            if known.get(one.id, (0, {}))[0] != one.sequence:
                known[one.id] = one.sequence, _left(await self._ledger.history(one.id, one.tenant))
            left |= known[one.id][1]
        return left

    # ---- what is done

    async def _do(self, job: Job, workload: Workload, stages: Sequence[StageNow], move: rules.Move) -> Outcome:
        match move:
            case rules.Begin():
                started = JobStarted(**_run_of(job), device=PIPELINE, worker=_WORKER)
                return await self._say(job, "started", started)
            case rules.Show(artifacts):
                for artifact in artifacts:
                    job = await self._show(job, artifact)
                return job
            case rules.Complete(stage):
                return await self._complete(job, stage)
            case rules.Stop(failure, error):
                used = rules.cost_of_run(job, stages)
                ended = JobInterrupted(**_run_of(job), failure=failure, error=error, cost=used)
                return await self._say(job, "interrupted", ended)
            case rules.Finish(last):
                return await self._finish(job, workload, stages, last)
            case rules.Wait():
                until_s = ((job.deadline or datetime.max.replace(tzinfo=UTC)) - self._ledger.clock()).total_seconds()
                return Look(min(_LOOK_S, until_s) if until_s > 0 else _LOOK_S)
            case _:
                await self._move_jobs(job, move)
                return Look(0.0)  # others have a turn in between

    async def _move_jobs(self, job: Job, move: rules.Retry | rules.Cancel | rules.Submit) -> None:
        match move:
            case rules.Retry(jobs):
                now = self._ledger.clock()
                left_s = ((job.deadline or now) - now).total_seconds()
                for one in jobs:
                    await self._say_of(one, retry(one, after=None, delay_s=0.0, now=now, deadline_s=left_s))
            case rules.Cancel(jobs):
                for one in jobs:
                    await self._say_of(one, request_cancel(one, by=f"pipeline:{job.id}"))
            case rules.Submit():
                for shard in move.shards:
                    await self._submit(job, move, shard)

    async def _submit(self, job: Job, move: rules.Submit, shard: int) -> None:
        """Submit the job of a shard; one that is there already was submitted by whoever led before."""
        stage, asked = move.stage, job.submitted
        data = JobSubmitted(
            workload=stage.work,
            workload_version=self._workloads[stage.work].version if stage.work in self._workloads else "",
            inputs=asked.inputs if stage.takes_inputs else {},
            params=asked.params,
            priority=asked.priority,
            max_cost_usd=move.max_cost_usd,
            gpu=asked.gpu if self._has_ladder(stage) else None,
            deadline=job.deadline or asked.deadline,
            part_of=PartOf(job_id=job.id, stage=stage.name, shard=shard, shards=move.of),
        )
        job_id = stage_job_id(job.id, stage.name, shard)
        try:
            await self._ledger.begin(job_id, job.tenant, data)
        except Conflict:
            await self._ledger.load_whole(job_id, job.tenant)

    def _has_ladder(self, stage: Stage) -> bool:
        """Tell whether a stage has a use for the GPU that the user chose."""
        return stage.work in self._workloads and bool(self._workloads[stage.work].compute.gpus)

    async def _show(self, job: Job, artifact: Artifact) -> Job:
        name = hashlib.sha256(artifact.name.encode()).hexdigest()[:16]
        what = f"artifact.{name}.{artifact.sha256[:16]}"
        return await self._say(job, what, JobArtifactReady(**_run_of(job), artifact=artifact))

    async def _complete(self, job: Job, stage: StageNow) -> Job:
        completed = JobStageCompleted(
            **_run_of(job),
            stage=stage.stage.name,
            duration_s=rules.duration_s(stage),
            cost=rules.cost_of_stage(stage),
        )
        return await self._say(job, f"stage.{stage.stage.name}", completed)

    async def _finish(self, job: Job, workload: Workload, stages: Sequence[StageNow], last: Job) -> Job:
        """Leave how it stands and, last, the manifest; then say that the pipeline is done."""
        assert job.run_id
        now = self._ledger.clock()
        lasted_s = round((now - (job.started_at or now)).total_seconds(), 3)
        manifest = Manifest(
            job_id=job.id,
            tenant=job.tenant,
            workload=workload.name,
            workload_version=workload.version,
            attempt=job.attempt,
            run_id=job.run_id,
            created_at=now,
            duration_s=lasted_s,
            device=PIPELINE,
            result=last.result or {},
            artifacts=[one for _, one in sorted((await self._left_by(job, stages)).items())],
        )
        done = Progress(stages[-1].stage.name, 1.0, 1.0, "Done.")
        progress = document(replace(job, state=State.SUCCEEDED), stages, done, now)
        await self._bucket.put(self._bucket.key("results", job.id, PROGRESS_NAME), progress)
        key = self._bucket.key("results", job.id, MANIFEST_NAME)
        await self._bucket.put(key, manifest.model_dump_json(indent=1).encode())
        succeeded = JobSucceeded(
            **_run_of(job),
            result=manifest.result,
            manifest_key=key,
            duration_s=lasted_s,
            cost=rules.cost_of_run(job, stages),
        )
        ended = await self._say(job, "succeeded", succeeded)
        self._on_end(ended)
        return ended

    async def _settle(self, job: Job) -> Job:
        """End the pipeline: its jobs have had their attempts."""
        error = job.error or SaccadeError(ErrorCode.WORKER_LOST).body()
        failed = JobFailed(attempt=job.attempt, failure=job.failure or "lost", error=error)
        end = JobCancelled(attempt=job.attempt) if job.cancel_requested else failed
        ended = await self._ledger.say(job, end)
        self._on_end(ended)
        return ended

    async def _give_up(self, job: Job, error: ErrorBody) -> Outcome:
        """End an attempt whose stages are not known any more, and with it what is under way of them."""
        under_way = [one for one in self._jobs if pipeline_id_of(one.id) == job.id]
        failure: FailureClass = "broken"
        stage = StageNow(Stage("", "", 1.0), tuple(under_way))
        workload = self._workloads[job.submitted.workload]
        return await self._do(job, workload, [stage], rules.wind_up([stage], rules.Stop(failure, error)))

    # ---- what is said

    async def _say(self, job: Job, what: str, data: EventData) -> Job:
        """Say something of the pipeline's attempt, under the same id whoever says it."""
        known, told = self._told.get(job.id, (0, Told()))
        after = await self._ledger.say(job, data, event_id=f"{job.run_id}.{what}")
        if known == job.sequence:
            self._told[job.id] = after.sequence, _and(told, data)
        return after

    async def _say_of(self, part: Job, data: EventData | None) -> None:
        """Say something of a stage's job; if it has moved on, it is looked at anew."""
        if data is None:
            return
        try:
            await self._ledger.say(part, data)
        except Conflict:
            await self._ledger.load(part.id, part.tenant)


def _run_of(job: Job) -> dict[str, Any]:
    """Give what every event of an attempt names."""
    assert job.run_id
    return {"attempt": job.attempt, "run_id": job.run_id}


def _told(history: Sequence[StoredEvent], until: int) -> Told:
    """Read what a pipeline has said of its stages, in any attempt."""
    told = Told()
    for stored in history:
        if stored.sequence <= until and (data := _data(stored)):
            told = _and(told, data)
    return told


def _and(told: Told, data: EventData) -> Told:
    match data:
        case JobStageCompleted():
            return Told(told.completed | {data.stage}, told.artifacts)
        case JobArtifactReady():
            return Told(told.completed, {**told.artifacts, data.artifact.name: data.artifact})
        case _:
            return told


def _left(history: Sequence[StoredEvent]) -> dict[str, Artifact]:
    """Read what a job left, by name: each attempt's while it was the one that counted, the newest of each name."""
    job: Job | None = None
    left: dict[str, Artifact] = {}
    for stored in history:
        if data := _data(stored):
            job = fold(job, decode_at(stored.subject, stored.body), stored.sequence)
            if isinstance(data, JobArtifactReady) and job and job.is_current_run(data.attempt, data.run_id):
                left[data.artifact.name] = data.artifact
    return left


def _data(stored: StoredEvent) -> EventData | None:
    """Read an event; None for what cannot be read, or is of a newer version's type."""
    try:
        envelope = decode_at(stored.subject, stored.body)
        return envelope.parsed() if envelope.type in EVENT_CLASSES else None
    except ValueError:
        return None
