"""Stages of a pipeline as its job object shows them: state, progress, jobs and cost of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from contracts.events.job import JobProgressed
from contracts.ids import stage_job_id
from contracts.job import Job, State
from contracts.workload import Stage, Workload
from modal_workers import catalog

StageState = Literal["skipped", "waiting", "running", "succeeded", "failed", "cancelled"]


class StageJobObject(BaseModel):
    """One shard of a stage: a job that can be read, listed and followed like any other."""

    id: str
    state: State
    fraction: float = Field(ge=0, le=1)
    attempt: int
    device: str | None
    cost_usd: float


class StageObject(BaseModel):
    """One stage of a pipeline."""

    name: str
    title: str
    state: StageState
    share: float = Field(description="Its part of `progress` when all stages are required.")
    fraction: float = Field(ge=0, le=1)
    message: str
    shards: int = Field(description="Number of jobs that it is split into; 0 if it is not required.")
    jobs: list[StageJobObject] = Field(description="The jobs created so far, by shard.")
    duration_s: float | None = Field(description="From the first job's start to the last one's end, or until now.")
    cost_usd: float


def stage_objects(
    job: Job, stage_jobs: Sequence[Job], progress_of: Callable[[Job], JobProgressed | None], now: datetime
) -> list[StageObject]:
    """Return the stages of a pipeline's job, given their jobs so far; empty for other jobs."""
    if (workload := _pipeline(job)) is None:
        return []
    by_id = {stage_job.id: stage_job for stage_job in stage_jobs}
    return [
        _stage(job, stage, shards, by_id, progress_of=progress_of, now=now) for stage, shards in _shards(job, workload)
    ]


def stage_job_ids(job: Job) -> list[str]:
    """Return the ids that the jobs of a pipeline's stages have once they are created; empty for other jobs."""
    if (workload := _pipeline(job)) is None:
        return []
    return [
        stage_job_id(job.id, stage.name, shard) for stage, shards in _shards(job, workload) for shard in range(shards)
    ]


def pipeline_progress(stages: Sequence[StageObject]) -> float:
    """Return the progress over all required stages, 0 to 1."""
    required = [stage for stage in stages if stage.shards]
    total = sum(stage.share for stage in required)
    return sum(stage.share * stage.fraction for stage in required) / total if total else 0.0


def is_pipeline(job: Job) -> bool:
    """Return whether a job is that of a pipeline."""
    return _pipeline(job) is not None


def _pipeline(job: Job) -> Workload | None:
    workload = catalog.workloads().get(job.submitted.workload)
    return workload if workload is not None and workload.kind == "pipeline" else None


def _shards(job: Job, workload: Workload) -> list[tuple[Stage, int]]:
    try:
        params = workload.params.model_validate(job.submitted.params)
    except ValidationError:  # submitted to another version of the workload
        return [(stage, 1) for stage in workload.stages]
    return [(stage, stage.shards(params) if stage.needed(params) else 0) for stage in workload.stages]


def _stage(
    job: Job,
    stage: Stage,
    shards: int,
    stage_jobs: dict[str, Job],
    *,
    progress_of: Callable[[Job], JobProgressed | None],
    now: datetime,
) -> StageObject:
    ids = [stage_job_id(job.id, stage.name, shard) for shard in range(shards)]
    jobs = [stage_jobs[job_id] for job_id in ids if job_id in stage_jobs]
    progress = [progress_of(shard_job) for shard_job in jobs]
    fractions = [_fraction(shard_job, reported) for shard_job, reported in zip(jobs, progress, strict=True)]
    return StageObject(
        name=stage.name,
        title=stage.title,
        state=_state(jobs, shards),
        share=stage.share,
        fraction=round(sum(fractions) / shards, 4) if shards else 0.0,
        message=next((reported.message for reported in progress if reported is not None and reported.message), ""),
        shards=shards,
        jobs=[
            StageJobObject(
                id=shard_job.id,
                state=shard_job.state,
                fraction=round(fraction, 4),
                attempt=shard_job.attempt,
                device=shard_job.device,
                cost_usd=shard_job.actual_usd,
            )
            for shard_job, fraction in zip(jobs, fractions, strict=True)
        ],
        duration_s=_duration_s(jobs, now),
        cost_usd=round(sum(shard_job.actual_usd for shard_job in jobs), 6),
    )


def _fraction(shard_job: Job, progress: JobProgressed | None) -> float:
    if shard_job.state is State.SUCCEEDED:
        return 1.0
    return progress.fraction if progress else 0.0


def _state(jobs: Sequence[Job], shards: int) -> StageState:
    states = {shard_job.state for shard_job in jobs}
    if not shards:
        return "skipped"
    if not jobs:
        return "waiting"
    if any(not state.ended for state in states):
        return "running"
    if State.FAILED in states:
        return "failed"
    if State.CANCELLED in states:
        return "cancelled"
    return "succeeded" if len(jobs) == shards else "running"


def _duration_s(jobs: Sequence[Job], now: datetime) -> float | None:
    if not jobs:
        return None
    started = min(shard_job.created_at for shard_job in jobs)
    finished = max(shard_job.finished_at or now for shard_job in jobs)
    return round(max(0.0, (finished - started).total_seconds()), 3)
