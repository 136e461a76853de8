"""A pipeline's stages as its job shows them: what was not needed, what waits, runs and is done, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from contracts.events.job import JobProgressed
from contracts.ids import stage_job_id
from contracts.job import Job, State
from contracts.workload import Stage, Workload
from modal_workers import catalog
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.latest_progress import LatestJobProgress

StageState = Literal["skipped", "waiting", "running", "succeeded", "failed", "cancelled"]


class StageJobObject(BaseModel):
    """One shard of a stage: a job that is read, listed and followed like any other."""

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
    share: float = Field(description="Its part of `progress`, when all stages are needed.")
    fraction: float = Field(ge=0, le=1)
    message: str
    shards: int = Field(description="Into how many jobs it is fanned out; 0 where it is not needed.")
    jobs: list[StageJobObject] = Field(description="Those that there are so far, by shard.")
    duration_s: float | None = Field(description="From its first job's beginning to its last one's end, or until now.")
    cost_usd: float


def stages_of(job: Job, view: GatewayView, progress: LatestJobProgress) -> list[StageObject]:
    """Show the stages of a pipeline's job; none for a job of its own."""
    workload = catalog.workloads().get(job.submitted.workload)
    if workload is None or workload.kind != "pipeline":
        return []
    parts = {part.id: part for part in view.parts(job.id)}
    return [_stage(job, one, shards, parts, progress) for one, shards in _shards(job, workload)]


def progress_of(stages: Sequence[StageObject]) -> float:
    """Add up how far the needed stages are."""
    needed = [one for one in stages if one.shards]
    whole = sum(one.share for one in needed)
    return sum(one.share * one.fraction for one in needed) / whole if whole else 0.0


def _shards(job: Job, workload: Workload) -> list[tuple[Stage, int]]:
    try:
        params = workload.params.model_validate(job.submitted.params)
    except ValidationError:  # of another version than this one
        return [(stage, 1) for stage in workload.stages]
    return [(stage, stage.shards(params) if stage.needed(params) else 0) for stage in workload.stages]


def _stage(job: Job, stage: Stage, shards: int, parts: dict[str, Job], progress: LatestJobProgress) -> StageObject:
    jobs = [part for shard in range(shards) if (part := parts.get(stage_job_id(job.id, stage.name, shard)))]
    told = [progress.known(part) for part in jobs]
    fractions = [_fraction(part, one) for part, one in zip(jobs, told, strict=True)]
    return StageObject(
        name=stage.name,
        title=stage.title,
        state=_state(jobs, shards),
        share=stage.share,
        fraction=round(sum(fractions) / shards, 4) if shards else 0.0,
        message=next((one.message for one in told if one is not None and one.message), ""),
        shards=shards,
        jobs=[
            StageJobObject(
                id=part.id,
                state=part.state,
                fraction=round(fraction, 4),
                attempt=part.attempt,
                device=part.device,
                cost_usd=part.actual_usd,
            )
            for part, fraction in zip(jobs, fractions, strict=True)
        ],
        duration_s=_duration_s(jobs),
        cost_usd=round(sum(part.actual_usd for part in jobs), 6),
    )


def _fraction(part: Job, told: JobProgressed | None) -> float:
    if part.state is State.SUCCEEDED:
        return 1.0
    return told.fraction if told else 0.0


def _state(jobs: Sequence[Job], shards: int) -> StageState:
    states = {part.state for part in jobs}
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


def _duration_s(jobs: Sequence[Job]) -> float | None:
    if not jobs:
        return None
    begun = min(part.created_at for part in jobs)
    over = max(part.finished_at or datetime.now(UTC) for part in jobs)
    return round(max(0.0, (over - begun).total_seconds()), 3)
