"""What follows for a pipeline from its own state and that of its stages' jobs. No I/O, no clock.

A pipeline launches nothing and takes no slot: its stages' jobs do. It leaves ``running`` only when none of them is
under way, so whatever ends it, what they cost is known by then and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import floor
from typing import Final

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.job import PIPELINE, Cost, FailureClass
from contracts.ids import stage_job_id
from contracts.job import Job, State
from contracts.manifest import Artifact
from contracts.workload import Stage, Workload
from services.dispatcher.lifecycle.failure_messages import error_of, over_cap
from services.dispatcher.lifecycle.retry import past_deadline

_MOST_SHARDS: Final = 999
_MICRO: Final = 1_000_000


@dataclass(frozen=True)
class StageNow:
    """A needed stage and its jobs, by shard; None where there is none yet."""

    stage: Stage
    jobs: tuple[Job | None, ...]

    @property
    def known(self) -> list[Job]:
        """List the jobs that there are."""
        return [job for job in self.jobs if job is not None]

    @property
    def done(self) -> bool:
        """Tell whether every shard has succeeded."""
        return all(job is not None and job.state is State.SUCCEEDED for job in self.jobs)


@dataclass(frozen=True)
class Told:
    """What the pipeline has said of its stages, in this attempt or an earlier one."""

    completed: frozenset[str] = frozenset()
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)


@dataclass(frozen=True)
class Retry:
    """Give these jobs, which have ended without a result, another attempt."""

    jobs: Sequence[Job]


@dataclass(frozen=True)
class Begin:
    """All is as it must be for the stages to go on."""


@dataclass(frozen=True)
class Show:
    """Say of these files that they are the pipeline's."""

    artifacts: Sequence[Artifact]


@dataclass(frozen=True)
class Cancel:
    """Ask for the end of these jobs."""

    jobs: Sequence[Job]


@dataclass(frozen=True)
class Stop:
    """End the attempt: none of its jobs is under way any more."""

    failure: FailureClass
    error: ErrorBody


@dataclass(frozen=True)
class Submit:
    """Submit these shards of a stage, each of which may cost so much."""

    stage: Stage
    shards: Sequence[int]
    of: int
    max_cost_usd: float | None


@dataclass(frozen=True)
class Complete:
    """Say that a stage is done."""

    stage: StageNow


@dataclass(frozen=True)
class Finish:
    """Say that the pipeline is done, with the result of its last stage."""

    last: Job


@dataclass(frozen=True)
class Wait:
    """Its jobs are under way."""


Move = Retry | Begin | Show | Cancel | Stop | Submit | Complete | Finish | Wait


def shards_of(workload: Workload, params: object) -> list[tuple[Stage, int]]:
    """List the stages that these parameters need, in order, each with its number of shards.

    Raises:
        ValueError: the workload asks for none, or for more shards of a stage than there may be.
    """
    needed = [(stage, stage.shards(params)) for stage in workload.stages if stage.needed(params)]
    for stage, shards in needed:
        if not 1 <= shards <= _MOST_SHARDS:
            raise ValueError(f"{workload.name}: the stage {stage.name} has {shards} shards, 1 to {_MOST_SHARDS} may be")
    if not needed:
        raise ValueError(f"{workload.name}: no stage is needed")
    return needed


def job_ids(pipeline_id: str, stage: Stage, shards: int) -> list[str]:
    """Name the jobs of a stage, by shard."""
    return [stage_job_id(pipeline_id, stage.name, shard) for shard in range(shards)]


def before_running(pipeline: Job, stages: Sequence[StageNow]) -> Retry | Begin:
    """Decide what a pipeline that begins, or begins again, needs: what failed before must be open once more."""
    again = [job for now in stages for job in now.known if job.state in (State.FAILED, State.CANCELLED)]
    return Begin() if pipeline.cancel_requested or not again else Retry(again)


def while_running(
    pipeline: Job, stages: Sequence[StageNow], told: Told, left: Mapping[str, Artifact], now: datetime
) -> Move:
    """Decide what a running pipeline needs; ``left`` is what its jobs that have ended left, by name."""
    if new := [one for name, one in sorted(left.items()) if told.artifacts.get(name) != one]:
        return Show(new)
    if end := _end(pipeline, stages, now):
        return wind_up(stages, end)
    for stage in stages:
        if not stage.done:
            return _advance(pipeline, stages, stage)
        if stage.stage.name not in told.completed:
            return Complete(stage)
    return Finish(stages[-1].known[0])


def _end(pipeline: Job, stages: Sequence[StageNow], now: datetime) -> Stop | None:
    """Tell why the attempt must end before its time, if it must."""
    if pipeline.cancel_requested:
        return Stop("preempted", error_of(ErrorCode.WORKER_LOST, "The job was cancelled."))
    jobs = [job for stage in stages for job in stage.known]
    failed = [job for job in jobs if job.state is State.FAILED]
    if failed:  # the first to fail is why others were cancelled
        first = min(failed, key=lambda job: (job.finished_at or now, job.id))
        error = first.error or error_of(ErrorCode.WORKER_LOST, "")
        capped = error.code == ErrorCode.COST_CAP_REACHED and pipeline.submitted.max_cost_usd is not None
        return Stop(first.failure or "broken", over_cap(pipeline) if capped else error)
    if pipeline.deadline and now >= pipeline.deadline and not all(stage.done for stage in stages):
        late = past_deadline()
        return Stop(late.failure, late.error)
    if cancelled := [job.id for job in jobs if job.state is State.CANCELLED]:
        return Stop("preempted", error_of(ErrorCode.WORKER_LOST, f"The job {cancelled[0]} was cancelled."))
    return None


def wind_up(stages: Sequence[StageNow], end: Stop) -> Cancel | Wait | Stop:
    """End what is under way before the attempt ends."""
    unended = [job for stage in stages for job in stage.known if not job.state.ended]
    if unasked := [job for job in unended if not job.cancel_requested]:
        return Cancel(unasked)
    return Wait() if unended else end


def _advance(pipeline: Job, stages: Sequence[StageNow], stage: StageNow) -> Move:
    missing = [shard for shard, job in enumerate(stage.jobs) if job is None]
    if not missing:
        return Wait()
    cap = pipeline.submitted.max_cost_usd
    if cap is None:
        return Submit(stage.stage, missing, len(stage.jobs), None)
    others = cost_of(job for other in stages if other is not stage for job in other.known)
    left_usd = max(0.0, cap - others.usd)
    if others.usd > 0 and left_usd <= 0:
        return wind_up(stages, Stop("user", over_cap(pipeline)))
    # Rounded down: together they must not be given more than is left.
    each_usd = floor(left_usd * _MICRO / len(stage.jobs)) / _MICRO
    return Submit(stage.stage, missing, len(stage.jobs), each_usd)


# ---- what it costs


def cost_of(jobs: Iterable[Job], device: str = PIPELINE) -> Cost:
    """Add up what jobs have cost."""
    costs = [cost for job in jobs for cost in job.costs.values()]
    return Cost(
        device=device,
        seconds=round(sum(cost.seconds for cost in costs), 3),
        startup_s=round(sum(cost.startup_s for cost in costs), 3),
        usd=round(sum(cost.usd for cost in costs), 6),
    )


def cost_of_stage(stage: StageNow) -> Cost:
    """Add up what a stage has cost, on whichever devices."""
    devices = {cost.device for job in stage.known for cost in job.costs.values()}
    return cost_of(stage.known, ", ".join(sorted(devices)) or PIPELINE)


def cost_of_run(pipeline: Job, stages: Sequence[StageNow]) -> Cost:
    """Give what this attempt of the pipeline has cost: all that its jobs did, less what earlier attempts have told."""
    whole = cost_of(job for stage in stages for job in stage.known)
    told = [cost for run_id, cost in pipeline.costs.items() if run_id != pipeline.run_id]
    return Cost(
        device=PIPELINE,
        seconds=max(0.0, round(whole.seconds - sum(cost.seconds for cost in told), 3)),
        startup_s=max(0.0, round(whole.startup_s - sum(cost.startup_s for cost in told), 3)),
        usd=max(0.0, round(whole.usd - sum(cost.usd for cost in told), 6)),
    )


def duration_s(stage: StageNow) -> float:
    """Give the seconds from the first of a stage's jobs to the end of the last that has ended."""
    begun = min(job.created_at for job in stage.known)
    over = max(job.finished_at or job.created_at for job in stage.known)
    return round(max(0.0, (over - begun).total_seconds()), 3)
