"""Next action of a pipeline, from its own state and that of its stages' jobs. No I/O, no clock.

A pipeline launches nothing and holds no slot: its stages' jobs do. It leaves ``running`` only when none of them is
unfinished, so that their whole cost is known and counted, however the pipeline ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor
from typing import Final

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.job import FailureClass
from contracts.ids import stage_job_id
from contracts.job import Job, State
from contracts.manifest import Artifact
from contracts.workload import Stage, Workload
from services.dispatcher.attempts.failure_messages import cost_cap_reached, error_body
from services.dispatcher.attempts.retry import past_deadline
from services.dispatcher.costs.pipeline_cost import total_cost

MAXIMUM_SHARDS: Final = 999
_MICRO: Final = 1_000_000


@dataclass(frozen=True)
class StageSnapshot:
    """A needed stage and its jobs, by shard; None for a shard that is not submitted yet."""

    stage: Stage
    jobs: tuple[Job | None, ...]

    @property
    def submitted(self) -> list[Job]:
        """Jobs that were submitted."""
        return [job for job in self.jobs if job is not None]

    @property
    def done(self) -> bool:
        """Whether every shard has succeeded."""
        return all(job is not None and job.state is State.SUCCEEDED for job in self.jobs)


@dataclass(frozen=True)
class PublishedStages:
    """Stages and artifacts that the pipeline has published, in this attempt or an earlier one."""

    completed: frozenset[str] = frozenset()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class RetryJobs:
    """Action: retry these jobs, which have ended without a result."""

    jobs: Sequence[Job]


@dataclass(frozen=True)
class StartStages:
    """Action: publish ``job.started``: no job has to be retried first."""


@dataclass(frozen=True)
class PublishArtifacts:
    """Action: publish these files of the stages' jobs as the pipeline's."""

    artifacts: Sequence[Artifact]


@dataclass(frozen=True)
class CancelJobs:
    """Action: request the cancellation of these jobs."""

    jobs: Sequence[Job]


@dataclass(frozen=True)
class EndAttempt:
    """Action: end the attempt: none of its jobs is unfinished any more."""

    failure: FailureClass
    error: ErrorBody


@dataclass(frozen=True)
class SubmitShards:
    """Action: submit these shards of a stage, with a cost cap for each."""

    stage: Stage
    shards: Sequence[int]
    shard_count: int
    max_cost_usd: float | None


@dataclass(frozen=True)
class CompleteStage:
    """Action: publish that a stage is completed."""

    stage: StageSnapshot


@dataclass(frozen=True)
class FinishPipeline:
    """Action: publish the pipeline's success, with the result of its last stage."""

    last: Job


@dataclass(frozen=True)
class WaitForJobs:
    """Action: wait for unfinished jobs."""


PipelineAction = (
    RetryJobs
    | StartStages
    | PublishArtifacts
    | CancelJobs
    | EndAttempt
    | SubmitShards
    | CompleteStage
    | FinishPipeline
    | WaitForJobs
)


def needed_stages(workload: Workload, params: object) -> list[tuple[Stage, int]]:
    """Return the stages that these parameters need, in order, each with its number of shards.

    Raises:
        ValueError: no stage is needed, or a stage has too many shards.
    """
    needed = [(stage, stage.shards(params)) for stage in workload.stages if stage.needed(params)]
    for stage, shards in needed:
        if not 1 <= shards <= MAXIMUM_SHARDS:
            raise ValueError(
                f"{workload.name}: the stage {stage.name} has {shards} shards; 1 to {MAXIMUM_SHARDS} are allowed"
            )
    if not needed:
        raise ValueError(f"{workload.name}: no stage is needed")
    return needed


def job_ids(pipeline_id: str, stage: Stage, shards: int) -> list[str]:
    """Return the ids of a stage's jobs, by shard."""
    return [stage_job_id(pipeline_id, stage.name, shard) for shard in range(shards)]


def action_before_running(pipeline: Job, stages: Sequence[StageSnapshot]) -> RetryJobs | StartStages:
    """Return the action of a pipeline that starts an attempt: failed jobs of an earlier attempt are retried first."""
    failed = [job for snapshot in stages for job in snapshot.submitted if job.state in (State.FAILED, State.CANCELLED)]
    return StartStages() if pipeline.cancel_requested or not failed else RetryJobs(failed)


def next_action(
    pipeline: Job,
    stages: Sequence[StageSnapshot],
    published: PublishedStages,
    artifacts: Mapping[str, Artifact],
    now: datetime,
) -> PipelineAction:
    """Return the action of a running pipeline; ``artifacts`` are the files of its ended jobs, by name."""
    if new := [artifact for name, artifact in sorted(artifacts.items()) if published.artifacts.get(name) != artifact]:
        return PublishArtifacts(new)
    if end := _reason_to_end(pipeline, stages, now):
        return cancel_and_end(stages, end)
    for snapshot in stages:
        if not snapshot.done:
            return _submit_or_wait(pipeline, stages, snapshot)
        if snapshot.stage.name not in published.completed:
            return CompleteStage(snapshot)
    return FinishPipeline(stages[-1].submitted[0])


def _reason_to_end(pipeline: Job, stages: Sequence[StageSnapshot], now: datetime) -> EndAttempt | None:
    """Return why the attempt must end without a result; None if it need not."""
    if pipeline.cancel_requested:
        return EndAttempt("preempted", error_body(ErrorCode.WORKER_LOST, "The job was cancelled."))
    jobs = [job for snapshot in stages for job in snapshot.submitted]
    failed = [job for job in jobs if job.state is State.FAILED]
    if failed:  # the first failure is the cause; the other jobs were cancelled because of it
        first = min(failed, key=lambda job: (job.finished_at or now, job.id))
        error = first.error or error_body(ErrorCode.WORKER_LOST, "")
        capped = error.code == ErrorCode.COST_CAP_REACHED and pipeline.submitted.max_cost_usd is not None
        return EndAttempt(first.failure or "broken", cost_cap_reached(pipeline) if capped else error)
    if pipeline.deadline and now >= pipeline.deadline and not all(snapshot.done for snapshot in stages):
        late = past_deadline()
        return EndAttempt(late.failure, late.error)
    if cancelled := [job.id for job in jobs if job.state is State.CANCELLED]:
        return EndAttempt("preempted", error_body(ErrorCode.WORKER_LOST, f"The job {cancelled[0]} was cancelled."))
    return None


def cancel_and_end(stages: Sequence[StageSnapshot], end: EndAttempt) -> CancelJobs | WaitForJobs | EndAttempt:
    """Return the action that ends an attempt: cancel unfinished jobs, wait for them, then end."""
    unfinished = [job for snapshot in stages for job in snapshot.submitted if not job.state.ended]
    if not_cancelled := [job for job in unfinished if not job.cancel_requested]:
        return CancelJobs(not_cancelled)
    return WaitForJobs() if unfinished else end


def _submit_or_wait(pipeline: Job, stages: Sequence[StageSnapshot], snapshot: StageSnapshot) -> PipelineAction:
    missing = [shard for shard, job in enumerate(snapshot.jobs) if job is None]
    if not missing:
        return WaitForJobs()
    cap = pipeline.submitted.max_cost_usd
    if cap is None:
        return SubmitShards(snapshot.stage, missing, len(snapshot.jobs), None)
    other_jobs = (job for other in stages if other is not snapshot for job in other.submitted)
    spent_usd = total_cost(other_jobs).usd
    remaining_usd = max(0.0, cap - spent_usd)
    if spent_usd > 0 and remaining_usd <= 0:
        return cancel_and_end(stages, EndAttempt("user", cost_cap_reached(pipeline)))
    # Rounded down: the caps of all shards together must not exceed the remaining amount.
    shard_cap_usd = floor(remaining_usd * _MICRO / len(snapshot.jobs)) / _MICRO
    return SubmitShards(snapshot.stage, missing, len(snapshot.jobs), shard_cap_usd)


def duration_s(snapshot: StageSnapshot) -> float:
    """Return the seconds from the submission of a stage's first job to the newest end among its jobs."""
    begun = min(job.created_at for job in snapshot.submitted)
    ended = max(job.finished_at or job.created_at for job in snapshot.submitted)
    return round(max(0.0, (ended - begun).total_seconds()), 3)
