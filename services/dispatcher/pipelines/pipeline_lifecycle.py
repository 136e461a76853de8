"""Lifecycle of a pipeline, one step at a time: reads its stages' jobs, decides by pure rules, publishes.

It launches nothing: it submits, retries and cancels jobs like all others. Each step starts from the events of the
pipeline and of its jobs alone, so any dispatcher can continue where another one died.
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
    Cost,
    JobArtifactReady,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobStageCompleted,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    PartOf,
)
from contracts.ids import pipeline_id_of, stage_job_id
from contracts.job import Job, State, fold, request_cancel, retry
from contracts.manifest import MANIFEST_NAME, Artifact, Manifest
from contracts.workload import Stage, Workload
from kit.bucket import Bucket
from kit.bus.event_store import Conflict, StoredEvent
from services.dispatcher.costs.pipeline_cost import pipeline_attempt_cost, stage_cost
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.requeue_after import RequeueAfter, StepResult
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.pipelines import stage_plan as plan
from services.dispatcher.pipelines.pipeline_progress import PROGRESS_NAME, PipelineProgress, progress_document
from services.dispatcher.pipelines.stage_plan import PublishedStages, StageSnapshot

log = logging.getLogger(__name__)

#: Time after which a pipeline with unfinished jobs is stepped again, even if none of their events arrived.
_REQUEUE_S: Final = 2.0
_WORKER: Final = "dispatcher"


class PipelineLifecycle:
    """Steps of pipelines. Steps of one pipeline must not run concurrently."""

    def __init__(
        self,
        *,
        repository: JobRepository,
        bucket: Bucket,
        jobs: UnfinishedJobs,
        workloads: Mapping[str, Workload],
        on_end: Callable[[Job, bytes | None], None],
    ) -> None:
        """Use these parts; ``on_end`` is called with each pipeline that ends after it has run.

        It also gets the content of ``progress.json``, if that was written here.
        """
        self._on_end = on_end
        self._repository = repository
        self._bucket = bucket
        self._jobs = jobs
        self._workloads = workloads
        #: Stages and artifacts that a pipeline has published, and its sequence at that time.
        self._published: dict[str, tuple[int, PublishedStages]] = {}
        #: Artifacts of ended jobs by name, by pipeline and job, with the job's sequence at that time.
        self._artifacts: dict[str, dict[str, tuple[int, dict[str, Artifact]]]] = {}

    def forget(self, job_id: str) -> None:
        """Remove what is kept in memory of a pipeline that has ended."""
        self._published.pop(job_id, None)
        self._artifacts.pop(job_id, None)

    async def is_needed(self, job: Job) -> bool:
        """Return whether a job may start: true unless it belongs to a pipeline that is gone or not running.

        Its submission may have been stored after another dispatcher ended the pipeline.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        part = job.submitted.part_of
        if part is None:
            return True
        pipeline = self._jobs.get(part.job_id) or await self._repository.load_from_history(part.job_id, job.tenant)
        return pipeline is not None and (pipeline.state.launching or pipeline.state is State.RUNNING)

    async def step(self, job: Job, workload: Workload) -> StepResult:
        """Advance a pipeline that has started an attempt.

        Raises:
            Conflict: it has newer events.
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if job.state is State.INTERRUPTED:
            return await self._settle(job)
        try:
            needed = plan.needed_stages(workload, workload.params.model_validate(job.submitted.params))
        except (ValidationError, ValueError) as error:
            log.warning("%s cannot continue: %s", job.id, error)
            message = f"This job's parameters do not match the stages of {workload.name} any more."
            return await self.give_up(job, SaccadeError(ErrorCode.INVALID_PARAMETER, message).body())
        if job.state.launching:
            stages = [await self._snapshot(job, stage, shards) for stage, shards in needed]
            return await self._perform(job, workload, stages, plan.action_before_running(job, stages))
        stages = []
        for stage, shards in needed:
            stages.append(await self._snapshot(job, stage, shards))
            if not stages[-1].done:
                break
        published, artifacts = await self._published_by(job), await self._artifacts_of(job, stages)
        action = plan.next_action(job, stages, published, artifacts, self._repository.clock())
        return await self._perform(job, workload, stages, action)

    # ---- reading

    async def _snapshot(self, job: Job, stage: Stage, shards: int) -> StageSnapshot:
        found = [
            self._jobs.stage_job(job_id) or await self._repository.load_from_history(job_id, job.tenant)
            for job_id in plan.job_ids(job.id, stage, shards)
        ]
        return StageSnapshot(stage, tuple(found))

    async def _published_by(self, job: Job) -> PublishedStages:
        sequence, published = self._published.get(job.id, (0, PublishedStages()))
        if sequence != job.sequence:
            published = _read_published(await self._repository.history(job.id, job.tenant), job.sequence)
            self._published[job.id] = job.sequence, published
        return published

    async def _artifacts_of(self, job: Job, stages: Sequence[StageSnapshot]) -> dict[str, Artifact]:
        """Return the artifacts of ended jobs by name; for equal names, that of the later stage and shard."""
        known = self._artifacts.setdefault(job.id, {})
        artifacts: dict[str, Artifact] = {}
        for stage_job in (each for snapshot in stages for each in snapshot.submitted if each.state.ended):
            if known.get(stage_job.id, (0, {}))[0] != stage_job.sequence:
                history = await self._repository.history(stage_job.id, stage_job.tenant)
                known[stage_job.id] = stage_job.sequence, _read_artifacts(history)
            artifacts |= known[stage_job.id][1]
        return artifacts

    # ---- actions

    async def _perform(
        self, job: Job, workload: Workload | None, stages: Sequence[StageSnapshot], action: plan.PipelineAction
    ) -> StepResult:
        match action:
            case plan.StartStages():
                started = JobStarted(**_run_of(job), device=PIPELINE, worker=_WORKER)
                return await self._publish(job, "started", started)
            case plan.PublishArtifacts(artifacts):
                for artifact in artifacts:
                    job = await self._publish_artifact(job, artifact)
                return job
            case plan.CompleteStage(stage):
                return await self._complete_stage(job, stage)
            case plan.EndAttempt(failure, error):
                ended = JobInterrupted(**_run_of(job), failure=failure, error=error, cost=_cost(job, stages))
                return await self._publish(job, "interrupted", ended)
            case plan.FinishPipeline(last):
                assert workload is not None, "a pipeline of an unknown workload is given up"
                return await self._finish(job, workload, stages, last)
            case plan.WaitForJobs():
                until_s = (
                    (job.deadline or datetime.max.replace(tzinfo=UTC)) - self._repository.clock()
                ).total_seconds()
                return RequeueAfter(min(_REQUEUE_S, until_s) if until_s > 0 else _REQUEUE_S)
            case _:
                await self._change_jobs(job, action)
                return RequeueAfter(0.0)  # lets other jobs take a turn in between

    async def _change_jobs(self, job: Job, action: plan.RetryJobs | plan.CancelJobs | plan.SubmitShards) -> None:
        match action:
            case plan.RetryJobs(stage_jobs):
                now = self._repository.clock()
                left_s = ((job.deadline or now) - now).total_seconds()
                for stage_job in stage_jobs:
                    retrying = retry(stage_job, after=None, delay_s=0.0, now=now, deadline_s=left_s)
                    await self._publish_of(stage_job, retrying)
            case plan.CancelJobs(stage_jobs):
                for stage_job in stage_jobs:
                    await self._publish_of(stage_job, request_cancel(stage_job, by=f"pipeline:{job.id}"))
            case plan.SubmitShards():
                for shard in action.shards:
                    await self._submit(job, action, shard)

    async def _submit(self, job: Job, action: plan.SubmitShards, shard: int) -> None:
        """Submit the job of a shard; if it exists, a previous leader has submitted it."""
        stage, submitted = action.stage, job.submitted
        data = JobSubmitted(
            workload=stage.work,
            workload_version=self._workloads[stage.work].version if stage.work in self._workloads else "",
            inputs=submitted.inputs if stage.takes_inputs else {},
            input_ids=submitted.input_ids if stage.takes_inputs else {},
            params=submitted.params,
            priority=submitted.priority,
            max_cost_usd=action.max_cost_usd,
            gpu=submitted.gpu if self._uses_gpu(stage) else None,
            gpu_fallback=submitted.gpu_fallback and self._uses_gpu(stage),
            deadline=job.deadline or submitted.deadline,
            part_of=PartOf(job_id=job.id, stage=stage.name, shard=shard, shards=action.shard_count),
        )
        job_id = stage_job_id(job.id, stage.name, shard)
        try:
            await self._repository.submit(job_id, job.tenant, data, job.traceparent)
        except Conflict:
            await self._repository.load_from_history(job_id, job.tenant)

    def _uses_gpu(self, stage: Stage) -> bool:
        return stage.work in self._workloads and bool(self._workloads[stage.work].compute.gpus)

    async def _publish_artifact(self, job: Job, artifact: Artifact) -> Job:
        name = hashlib.sha256(artifact.name.encode()).hexdigest()[:16]
        suffix = f"artifact.{name}.{artifact.sha256[:16]}"
        return await self._publish(job, suffix, JobArtifactReady(**_run_of(job), artifact=artifact))

    async def _complete_stage(self, job: Job, snapshot: StageSnapshot) -> Job:
        completed = JobStageCompleted(
            **_run_of(job),
            stage=snapshot.stage.name,
            duration_s=plan.duration_s(snapshot),
            cost=stage_cost(snapshot.submitted),
        )
        return await self._publish(job, f"stage.{snapshot.stage.name}", completed)

    async def _finish(self, job: Job, workload: Workload, stages: Sequence[StageSnapshot], last: Job) -> Job:
        """Write the final progress and, last, the manifest; then publish the pipeline's success."""
        assert job.run_id
        now = self._repository.clock()
        duration_s = round((now - (job.started_at or now)).total_seconds(), 3)
        manifest = Manifest(
            job_id=job.id,
            tenant=job.tenant,
            workload=workload.name,
            workload_version=workload.version,
            attempt=job.attempt,
            run_id=job.run_id,
            created_at=now,
            duration_s=duration_s,
            device=PIPELINE,
            result=last.result or {},
            artifacts=[artifact for _, artifact in sorted((await self._artifacts_of(job, stages)).items())],
        )
        done = PipelineProgress(stages[-1].stage.name, 1.0, 1.0, "Done.")
        document = progress_document(replace(job, state=State.SUCCEEDED), stages, done, now)
        await self._bucket.put(self._bucket.key("results", job.id, PROGRESS_NAME), document)
        key = self._bucket.key("results", job.id, MANIFEST_NAME)
        await self._bucket.put(key, manifest.model_dump_json(indent=1).encode())
        succeeded = JobSucceeded(
            **_run_of(job),
            result=manifest.result,
            manifest_key=key,
            duration_s=duration_s,
            cost=_cost(job, stages),
        )
        ended = await self._publish(job, "succeeded", succeeded)
        self._on_end(ended, document)
        return ended

    async def _settle(self, job: Job) -> Job:
        """End the pipeline after an interrupted attempt: its jobs have had their own retries."""
        error = job.error or SaccadeError(ErrorCode.WORKER_LOST).body()
        failed = JobFailed(attempt=job.attempt, failure=job.failure or "lost", error=error)
        end = JobCancelled(attempt=job.attempt) if job.cancel_requested else failed
        ended = await self._repository.publish(job, end)
        self._on_end(ended, None)
        return ended

    async def give_up(self, job: Job, error: ErrorBody) -> StepResult:
        """End an attempt whose stages are not known any more, after cancelling its unfinished jobs.

        Raises:
            Conflict, NotLeading, SaccadeError: as ``step``.
        """
        snapshot = StageSnapshot(Stage("", "", 1.0), tuple(await self._jobs_of(job)))
        action = plan.cancel_and_end([snapshot], plan.EndAttempt("broken", error))
        return await self._perform(job, self._workloads.get(job.submitted.workload), [snapshot], action)

    async def _jobs_of(self, job: Job) -> list[Job]:
        """Return the jobs of a pipeline: those in memory, and those that ended in an earlier attempt.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        known = (*self._jobs, *self._jobs.ended_stage_jobs)
        found = {stage_job.id: stage_job for stage_job in known if pipeline_id_of(stage_job.id) == job.id}
        workload = self._workloads.get(job.submitted.workload)
        for stage in workload.stages if workload else ():
            for shard in range(plan.MAXIMUM_SHARDS):
                job_id = stage_job_id(job.id, stage.name, shard)
                if job_id in found:
                    continue
                if (stage_job := await self._repository.load_from_history(job_id, job.tenant)) is None:
                    break
                found[job_id] = stage_job
        return list(found.values())

    # ---- published events

    async def _publish(self, job: Job, suffix: str, data: EventData) -> Job:
        """Publish an event of the pipeline's attempt, with an id that does not depend on the dispatcher."""
        known, published = self._published.get(job.id, (0, PublishedStages()))
        after = await self._repository.publish(job, data, event_id=f"{job.run_id}.{suffix}")
        if known == job.sequence:
            self._published[job.id] = after.sequence, _with_event(published, data)
        return after

    async def _publish_of(self, stage_job: Job, data: EventData | None) -> None:
        """Publish an event of a stage's job; if the job has newer events, reload it."""
        if data is None:
            return
        try:
            await self._repository.publish(stage_job, data)
        except Conflict:
            await self._repository.load(stage_job.id, stage_job.tenant)


def _run_of(job: Job) -> dict[str, Any]:
    """Return the fields that every event of an attempt has."""
    assert job.run_id
    return {"attempt": job.attempt, "run_id": job.run_id}


def _cost(job: Job, stages: Sequence[StageSnapshot]) -> Cost:
    return pipeline_attempt_cost(job, (stage_job for snapshot in stages for stage_job in snapshot.submitted))


def _read_published(history: Sequence[StoredEvent], until: int) -> PublishedStages:
    """Return what a pipeline has published of its stages up to a sequence, in any attempt."""
    published = PublishedStages()
    for stored in history:
        if stored.sequence <= until and (data := _decoded(stored)):
            published = _with_event(published, data)
    return published


def _with_event(published: PublishedStages, data: EventData) -> PublishedStages:
    match data:
        case JobStageCompleted():
            return PublishedStages(published.completed | {data.stage}, published.artifacts)
        case JobArtifactReady():
            artifacts = {**published.artifacts, data.artifact.name: data.artifact}
            return PublishedStages(published.completed, artifacts)
        case _:
            return published


def _read_artifacts(history: Sequence[StoredEvent]) -> dict[str, Artifact]:
    """Return a job's artifacts by name: the newest of each name, published by a run while it was the current one."""
    job: Job | None = None
    artifacts: dict[str, Artifact] = {}
    for stored in history:
        if data := _decoded(stored):
            job = fold(job, decode_at(stored.subject, stored.body), stored.sequence)
            if isinstance(data, JobArtifactReady) and job and job.is_current_run(data.attempt, data.run_id):
                artifacts[data.artifact.name] = data.artifact
    return artifacts


def _decoded(stored: StoredEvent) -> EventData | None:
    """Return an event's data; None if it cannot be decoded, or its type is unknown to this version."""
    try:
        envelope = decode_at(stored.subject, stored.body)
        return envelope.parsed() if envelope.type in EVENT_CLASSES else None
    except ValueError:
        return None
