"""Representation of jobs in HTTP answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from contracts.events import Cursor
from contracts.events.job import PIPELINE, JobProgressed
from contracts.job import Job, State
from contracts.job_request import job_input
from contracts.retention import scratch_expires_at
from kit.bus.tail import EventTail
from modal_workers import catalog
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.latest_progress import LatestJobProgress
from services.gateway.jobs.reported_holds import ReportedHolds
from services.gateway.jobs.schemas import (
    AttemptCost,
    CostObject,
    InputObject,
    JobObject,
    JobRuleObject,
    Links,
    RetentionObject,
)
from services.gateway.jobs.stage_objects import StageObject, is_pipeline, pipeline_progress, stage_objects
from services.gateway.time_machine.schemas import AsOf


class JobPresenter:
    """Builds job objects from jobs, their latest progress and the stages of pipelines."""

    def __init__(
        self,
        view: GatewayView,
        progress: LatestJobProgress,
        tail: EventTail,
        scratch_hours: float,
        holds: ReportedHolds | None = None,
    ) -> None:
        """``scratch_hours`` is the retention of scratch files; ``holds`` are operators' orders that jobs wait for."""
        self._holds = holds
        self._view, self._progress, self._tail = view, progress, tail
        self._scratch_hours = scratch_hours

    def reading(self, view: GatewayView) -> JobPresenter:
        """Return a presenter that reads from another view, and shares the rest."""
        return JobPresenter(view, self._progress, self._tail, self._scratch_hours, self._holds)

    async def full(self, job: Job, *, from_start: bool = False) -> JobObject:
        """Return a job object with stored progress; ``from_start`` sets the cursor before the job's first event."""
        return self._present(job, await self._progress.load(job), self._stages(job), from_start=from_start)

    def known(self, job: Job) -> JobObject:
        """Return a job object with the progress that was received, without a request to the bus."""
        return self._present(job, self._progress.known(job), self._stages(job))

    def past(self, job: Job, stage_jobs: Sequence[Job], as_of: AsOf) -> JobObject:
        """Return the object of a job, and of its stages' jobs, as they were: folded up to a point of the history.

        Progress is reported live and operators' orders are not events of the job, so neither is part of its history;
        ``as_of`` says whether its files are still there.
        """
        stages = stage_objects(job, stage_jobs, lambda _: None, as_of.time or job.updated_at or job.created_at)
        return self._present(job, None, stages, as_of=as_of)

    def retention(self, job: Job) -> RetentionObject:
        """Return how long a job's scratch files are kept."""
        return RetentionObject(
            kept_until=scratch_expires_at(job, self._scratch_hours),
            removed_at=job.scratch_removed_at,
            results_kept_until=job.results_keep_until,
            results_removed_at=job.results_expired_at,
        )

    def _held(self, job: Job) -> str | None:
        """Return why a job that has no worker gets none, if an operator ordered so."""
        waits = job.state in (State.SUBMITTED, State.QUEUED, State.RETRYING) and not job.cancel_requested
        return self._holds.reason(job.submitted.workload) if self._holds and waits else None

    def _stages(self, job: Job) -> list[StageObject]:
        stage_jobs = self._view.stage_jobs(job.id) if is_pipeline(job) else []
        return stage_objects(job, stage_jobs, self._progress.known, datetime.now(UTC))

    def _input(self, upload_id: str) -> InputObject:
        """Return an input that the job names by its id only; of an upload that is gone nothing else is known."""
        upload = self._view.upload(upload_id)
        if upload is None or upload.completed is None:
            return InputObject(upload_id=upload_id, filename="", content_type="", size_bytes=0, sha256="")
        return InputObject.model_validate(job_input(upload).model_dump(exclude={"key"}))

    def _present(
        self,
        job: Job,
        progress: JobProgressed | None,
        stages: list[StageObject],
        *,
        from_start: bool = False,
        as_of: AsOf | None = None,
    ) -> JobObject:
        path = f"/v1/jobs/{job.id}"
        own_path = path if as_of is None else f"{path}?at={as_of.cursor}"
        has_report = as_of is None or not as_of.files_removed
        submitted = job.submitted
        sequence = job.first_sequence - 1 if from_start else job.sequence
        return JobObject(
            id=job.id,
            workload=submitted.workload,
            state=job.state,
            stage=progress.stage if progress else job.stage,
            progress=_fraction(job, progress, stages),
            message=(self._held(job) if as_of is None else None) or _message(job, progress),
            attempt=job.attempt,
            created_at=job.created_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            inputs={name: [self._input(upload_id) for upload_id in ids] for name, ids in submitted.input_ids.items()}
            or {
                name: [InputObject.model_validate(file.model_dump(exclude={"key"})) for file in files]
                for name, files in submitted.inputs.items()
            },
            params=submitted.params,
            result=job.result,
            headline=_headline(job),
            report=_report(job, path) if has_report else None,
            error=job.error if job.state is not State.CANCELLED else None,
            cost=_cost(job, stages),
            stages=stages,
            pipeline=submitted.part_of.job_id if submitted.part_of else None,
            rule=JobRuleObject.model_validate(submitted.rule.model_dump()) if submitted.rule else None,
            retry_of=submitted.retry_of,
            gpu=None if job.device in (None, "cpu", "local", PIPELINE) else job.device,
            retention=self.retention(job),
            metadata=submitted.metadata,
            links=Links(
                self=own_path,
                events=f"{path}/events",
                artifacts=f"{path}/artifacts",
            ),
            cursor=str(Cursor(self._tail.epoch, sequence)),
            as_of=as_of,
        )


def _headline(job: Job) -> str | None:
    """Return the result in one sentence; None for results of another version of the workload."""
    workload = catalog.workloads().get(job.submitted.workload)
    if workload is None or job.result is None:
        return None
    try:
        return workload.headline(workload.result.model_validate(job.result)) or None
    except ValidationError:
        return None


def _report(job: Job, path: str) -> str | None:
    workload = catalog.workloads().get(job.submitted.workload)
    if workload is None or not workload.report or job.state is not State.SUCCEEDED:
        return None
    return f"{path}/artifacts/{workload.report}"


def _cost(job: Job, stages: list[StageObject]) -> CostObject:
    return CostObject(
        estimated_usd=job.submitted.estimated_usd,
        estimated_from=job.submitted.estimated_from,
        # A pipeline's own figure includes its stages' jobs only after its end.
        actual_usd=max(job.actual_usd, round(sum(stage.cost_usd for stage in stages), 6)),
        attempts=[AttemptCost(run_id=run_id, **cost.model_dump()) for run_id, cost in job.costs.items()],
    )


def _fraction(job: Job, progress: JobProgressed | None, stages: list[StageObject]) -> float:
    """Return the progress that the worker reported, but at least the share of the completed stages."""
    if job.state is State.SUCCEEDED:
        return 1.0
    reported = progress.fraction if progress else 0.0
    if stages:
        return round(min(1.0, max(pipeline_progress(stages), reported)), 4)
    completed = 0.0
    workload = catalog.workloads().get(job.submitted.workload)
    names = [stage.name for stage in workload.stages] if workload else []
    if workload and job.stage in names:
        completed = sum(stage.share for stage in workload.stages[: names.index(job.stage) + 1])
    return round(min(1.0, max(completed, reported)), 4)


def _message(job: Job, progress: JobProgressed | None) -> str:
    if job.cancel_requested and not job.state.ended:
        return "Cancelling."
    if job.state is State.WAITING_FOR_GPU:
        return f"Waiting for a {job.device}: none available at the moment."
    if progress:
        return progress.message
    return job.error.message if job.error and job.state is State.FAILED else ""
