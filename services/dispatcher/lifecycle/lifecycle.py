"""Lifecycle of a job, one step at a time: observe, decide by pure rules, act, publish conditionally.

Each step starts from the job's events alone, so any dispatcher can continue, wherever the previous one died. After a
lost conditional publish the job is read and decided again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import (
    PIPELINE,
    FailureClass,
    JobCancelled,
    JobQueued,
    JobWaitingForGpu,
)
from contracts.gpu_ladder import ladder_from
from contracts.job import Job, State, retry
from contracts.limits import WORKER_GRACE_S, WORKER_HEARTBEAT_S
from contracts.workload import Workload
from kit.bucket import Bucket
from kit.bus.event_store import Conflict
from services.dispatcher.attempts.failure_messages import (
    cost_cap_reached,
    error_body,
    next_gpu_exceeds_cap,
    stop_reason,
    worker_gone,
)
from services.dispatcher.attempts.last_signs import LastSign, ended_at, heard_until, no_sign
from services.dispatcher.attempts.liveness import Liveness, Observation, Timeouts, check_liveness
from services.dispatcher.attempts.recovered_result import recovered_result
from services.dispatcher.attempts.retry import (
    AttemptPolicy,
    EndedAttempt,
    RetryAttempt,
    decide_retry,
    jitter_of,
    past_deadline,
)
from services.dispatcher.budgets.budget_notices import BudgetNotices
from services.dispatcher.costs.attempt_cost import CPU, LOCAL, is_cap_spent
from services.dispatcher.costs.price_list import GpuRung, PriceList
from services.dispatcher.executors.executor import CallState, CallStatus, Executor
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.requeue_after import RequeueAfter, StepResult
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.lifecycle.archived_jobs import ArchivedJobs
from services.dispatcher.lifecycle.attempt_end import fail, interrupt
from services.dispatcher.lifecycle.launcher import Launcher, NewRunId, new_run_id
from services.dispatcher.pipelines.pipeline_lifecycle import PipelineLifecycle

log = logging.getLogger(__name__)

#: Time without a heartbeat after which polls are urgent: the executor must not answer from its cache.
_URGENT_POLL_S: Final = 3 * WORKER_HEARTBEAT_S
#: Lost conditional publishes in a row after which a job is requeued.
_MAXIMUM_CONFLICTS: Final = 10
#: Longest time from the decision to stop a worker to its end: its grace period and some latency.
STOP_S: Final = WORKER_GRACE_S + 1.0


#: Returns why a job that was just submitted must not begin; None if it may.
RefusalOf = Callable[[Job], Awaitable[SaccadeError | None]]


@dataclass(frozen=True)
class LifecycleRules:
    """Rules that the operator sets."""

    timeouts: Timeouts
    retry_policy: AttemptPolicy
    #: Interval between polls of a running call.
    poll_s: float


class Lifecycle:
    """Steps of jobs. Steps of one job must not run concurrently."""

    def __init__(
        self,
        *,
        repository: JobRepository,
        bucket: Bucket,
        executor: Executor,
        workloads: Mapping[str, Workload],
        jobs: UnfinishedJobs,
        rules: LifecycleRules,
        notices: BudgetNotices,
        waiting_jobs_of: Callable[[str], int],
        on_pipeline_end: Callable[[Job, bytes | None], None] = lambda _, __: None,
        executor_of: Callable[[Job], Executor] | None = None,
        is_held: Callable[[str], bool] = lambda _: False,
        run_id_for: NewRunId = new_run_id,
        last_sign: LastSign = no_sign,
        refusal_of: RefusalOf | None = None,
    ) -> None:
        """Use these parts; ``waiting_jobs_of`` returns the number of a tenant's waiting jobs.

        ``executor_of`` returns the executor of a job that does not run on ``executor``; ``is_held`` tells whether jobs
        of a workload must not be launched now; ``run_id_for`` returns the id of a job's next run: the only thing here
        that is drawn by chance, so a replay gives the recorded ones. ``last_sign`` returns when the worker of a job's
        current run was last heard, if that is stored. ``refusal_of`` is asked before a submitted job waits,
        by default ``repository``.
        """
        self._repository, self._refusal_of = repository, refusal_of or repository.refusal_of
        self._pipelines = PipelineLifecycle(
            repository=repository, bucket=bucket, jobs=jobs, workloads=workloads, on_end=on_pipeline_end
        )
        self._bucket = bucket
        self._archived = ArchivedJobs(repository, jobs)
        self._executor_of: Callable[[Job], Executor] = executor_of or (lambda _: executor)
        self.prices = PriceList(executor.name)
        self._workloads = workloads
        self._jobs = jobs
        self._rules = rules
        self._waiting_jobs_of = waiting_jobs_of
        self._is_held = is_held
        self._last_sign = last_sign
        self._notices = notices
        self.launcher = Launcher(repository, self._executor_of, self.prices, notices, run_id_for)
        #: Since when heartbeats could be received, by the event loop's clock.
        self.listening_since_s = 0.0

    async def advance(self, job_id: str, tenant: str, *, granted: bool) -> RequeueAfter | None:
        """Advance a job as far as possible now; with ``granted`` it may use a slot.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE; SERVICE_UNAVAILABLE, if the executor does not answer;
                SEGMENT_DAMAGED.
        """
        job = self._jobs.get(job_id) or await self._repository.load_from_history(job_id, tenant)
        if job is None:
            await self._archived.fail(job_id, tenant)
        conflicts = 0
        while job is not None and not job.state.ended:
            try:
                result = await self._step(job, granted)
            except Conflict:
                conflicts += 1
                if conflicts > _MAXIMUM_CONFLICTS:
                    return RequeueAfter(self._rules.poll_s)
                job = await self._repository.load(job.id, job.tenant)
                continue
            if not isinstance(result, Job):
                return result
            if result.state is State.INTERRUPTED:
                granted = False
            job = result
        return None

    async def load(self, job_id: str, tenant: str) -> None:
        """Load a job that is not in memory.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE, SEGMENT_DAMAGED.
        """
        if await self._repository.load_from_history(job_id, tenant) is None:
            await self._archived.fail(job_id, tenant)

    def now(self) -> datetime:
        """Return the current time as the steps use it."""
        return self._repository.clock()

    def forget(self, job_id: str) -> None:
        """Remove what is kept in memory of a job whose attempt is over."""
        self.launcher.forget(job_id)
        self._pipelines.forget(job_id)

    async def _step(self, job: Job, granted: bool) -> StepResult:
        workload = self._workloads.get(job.submitted.workload)
        if workload is None:
            return await self._end_unknown(job)
        pipeline = workload.kind == "pipeline"
        match job.state:
            case State.SUBMITTED | State.QUEUED | State.RETRYING:
                return await self._wait_or_start(job, workload, granted or pipeline)
            case _ if pipeline:
                return await self._pipelines.step(job, workload)
            case State.STARTING | State.WAITING_FOR_GPU | State.RUNNING:
                return await self._watch(job, workload)
            case State.INTERRUPTED:
                return await self._settle(job, workload)
            case _:
                return None

    async def _end_unknown(self, job: Job) -> StepResult:
        """End a job whose workload this dispatcher does not know, and what runs for it: its cost is settled first."""
        message = f"This dispatcher does not know the workload {job.submitted.workload!r}."
        error = error_body(ErrorCode.UNKNOWN_WORKLOAD, message)
        if job.executor == PIPELINE and job.state is not State.INTERRUPTED:
            return await self._pipelines.give_up(job, error)
        await self._stop_worker(job)
        if job.state is State.RUNNING:
            return await self._interrupt(job, "broken", error, await heard_until(job, self.now(), self._last_sign))
        return await self._fail(job, "broken", error)

    # ---- a job without a worker

    async def _wait_or_start(self, job: Job, workload: Workload, granted: bool) -> StepResult:
        now = self.now()
        if job.cancel_requested:
            return await self._repository.publish(job, JobCancelled(attempt=job.attempt))
        if job.deadline and now >= job.deadline:
            late = past_deadline()
            return await self._fail(job, late.failure, late.error)
        if is_cap_spent(job):
            return await self._fail(job, "user", cost_cap_reached(job))
        if job.state is State.SUBMITTED:
            if refusal := await self._refusal_of(job):
                return await self._fail(job, "user", refusal.body())
            return await self._repository.publish(job, JobQueued(position=self._waiting_jobs_of(job.tenant) + 1))
        if job.not_before and now < job.not_before:
            return RequeueAfter(_seconds_until(job.not_before, now))
        # A slot may have been granted just before the order, and a pipeline needs none.
        granted = granted and not self._is_held(workload.name)
        if granted and workload.kind == "pipeline":
            return await self.launcher.start_pipeline(job)
        if granted and not await self._pipelines.is_needed(job):
            return await self._repository.publish(job, JobCancelled(attempt=job.attempt))
        if granted:
            return await self.launcher.start(job, workload, self._devices(job, workload))
        return RequeueAfter(_seconds_until(job.deadline, now)) if job.deadline else None

    # ---- a job with a worker

    async def _watch(self, job: Job, workload: Workload) -> StepResult:
        call_id = await self.launcher.call_of(job)
        if call_id and not job.call_id:
            return await self.launcher.record_call(job, call_id)
        silent_s = self._silent_s(job)
        urgent = job.state is State.RUNNING and silent_s > _URGENT_POLL_S
        status = await self._executor_of(job).poll(call_id, urgent=urgent) if call_id else None
        next_rung = self._next_affordable_rung(job, workload) if job.state.launching else None
        stop_by = self.now() + timedelta(seconds=self._rules.timeouts.reaction_s)
        over_budget = self._notices.budgets.excess(job, stop_by) if job.state is State.RUNNING else None
        observation = Observation(
            status,
            silent_s,
            queues=self._executor_of(job).queues,
            next_device=next_rung.device if next_rung else None,
            over_budget=over_budget is not None,
        )
        liveness = check_liveness(job, workload.compute, observation, self.now(), self._rules.timeouts)
        match liveness:
            case Liveness.HEALTHY:
                return RequeueAfter(self._rules.poll_s)
            case Liveness.CANCEL_REQUESTED:
                return await self._cancel(job, workload, status)
            case Liveness.ENDED:
                return await self._recover(job, workload, status or CallStatus(CallState.ENDED))
            case Liveness.WAITING_FOR_GPU:
                return await self._publish_waiting(job, next_rung)
            case Liveness.OVER_BUDGET if over_budget:
                await self._notices.refused(job.tenant, over_budget, job.id)
                return await self._interrupt(job, "user", over_budget.error())
            case _:
                failure, error = stop_reason(liveness, job, workload.compute)
                return await self._interrupt(job, failure, error)

    async def _publish_waiting(self, job: Job, next_rung: GpuRung | None) -> StepResult:
        """Publish ``job.waiting_for_gpu`` with the length of the queue and the next rung."""
        assert job.run_id
        assert job.device
        assert job.starting_at
        backlog = await self._executor_of(job).backlog(job.submitted.workload, job.device)
        next_at = job.starting_at + timedelta(seconds=self._rules.timeouts.next_gpu_after_s)
        waiting = JobWaitingForGpu(
            attempt=job.attempt,
            run_id=job.run_id,
            device=job.device,
            waited_s=round((self.now() - job.starting_at).total_seconds(), 1),
            backlog=backlog.inputs if backlog else None,
            workers=backlog.workers if backlog else None,
            next_device=next_rung.device if next_rung else None,
            next_at=next_at if next_rung else None,
        )
        return await self._repository.publish(job, waiting)

    def _next_affordable_rung(self, job: Job, workload: Workload) -> GpuRung | None:
        return self.prices.next_affordable_rung(job, self._devices(job, workload))

    def _devices(self, job: Job, workload: Workload) -> tuple[str, ...]:
        executor, submitted = self._executor_of(job), job.submitted
        devices = executor.devices(workload.compute, submitted.gpu)
        if submitted.gpu and submitted.gpu_fallback:
            return ladder_from(devices, executor.devices(workload.compute, None))
        return devices

    async def _cancel(self, job: Job, workload: Workload, status: CallStatus | None) -> StepResult:
        """Stop the worker, then publish the end. A running worker publishes its own cost; otherwise we do."""
        is_gone = status is not None and status.state is CallState.ENDED
        await self._stop_worker(job)
        current = await self._repository.load(job.id, job.tenant)
        if current is None or current.state.ended:
            return current
        if current.state is not State.RUNNING:
            return await self._repository.publish(current, JobCancelled(attempt=current.attempt))
        error = error_body(ErrorCode.WORKER_LOST, "The job was cancelled.")
        until = await ended_at(current, workload.compute, self.now(), self._last_sign) if is_gone else None
        return await self._interrupt(current, "preempted", error, until)

    async def _recover(self, job: Job, workload: Workload, status: CallStatus) -> StepResult:
        """Publish the end of an attempt whose worker is gone: its result if it left one, else the failure."""
        current = await self._repository.load(job.id, job.tenant)
        if current is None or current.sequence != job.sequence:
            return current  # the worker's own events arrived in the meantime
        if succeeded := await recovered_result(self._bucket, job):
            return await self._repository.publish(job, succeeded)
        failure, error = worker_gone(status, job.state)
        until = await ended_at(job, workload.compute, self.now(), self._last_sign)
        return await self._interrupt(job, failure, error, until)

    async def _settle(self, job: Job, workload: Workload) -> StepResult:
        """Decide what follows an attempt, after its worker and all its children have ended."""
        await self._stop_worker(job)
        self.forget(job.id)
        if job.cancel_requested:
            return await self._repository.publish(job, JobCancelled(attempt=job.attempt))
        if job.failure in ("preempted", "lost") and (succeeded := await recovered_result(self._bucket, job)):
            return await self._repository.publish(job, succeeded)
        now = self.now()
        next_rung = self._next_affordable_rung(job, workload)
        ended = EndedAttempt(
            failure=job.failure or "lost",
            error=job.error or error_body(ErrorCode.WORKER_LOST, ""),
            number=job.attempt - job.first_attempt + 1,
            maximum_attempts=workload.max_attempts,
            deadline=job.deadline or job.submitted.deadline,
            rung=job.rung,
            next_rung=next_rung.number if next_rung else None,
            retry_after_s=job.retry_after_s if job.failure == "throttled" else None,
            has_ladder=job.device not in (CPU, LOCAL, None),
        )
        decision = decide_retry(ended, now, self._rules.retry_policy, jitter_of(job.run_id or job.id))
        if isinstance(decision, RetryAttempt):
            delay_s = round(decision.delay_s, 3)
            again = retry(job, after=ended.failure, delay_s=delay_s, now=now, deadline_s=0.0, rung=decision.rung)
            return await self._repository.publish(job, again)
        too_expensive = self.prices.next_rung(job, self._devices(job, workload))
        if decision.failure == "out_of_memory" and next_rung is None and too_expensive:
            error = next_gpu_exceeds_cap(decision.error, too_expensive.device, job)
            return await self._fail(job, decision.failure, error)
        return await self._fail(job, decision.failure, decision.error)

    async def _stop_worker(self, job: Job) -> None:
        """End the current run's worker, if there is one."""
        self._repository.require_leader()
        if call_id := await self.launcher.call_of(job):
            await self._executor_of(job).cancel(call_id)

    def _silent_s(self, job: Job) -> float:
        """Return the seconds without a heartbeat in which one could have been received."""
        heartbeat = self._jobs.last_heartbeat(job)
        heartbeat_s = heartbeat.at_s if heartbeat else 0.0
        return asyncio.get_running_loop().time() - max(heartbeat_s, self.listening_since_s)

    # ---- published events

    async def _interrupt(
        self, job: Job, failure: FailureClass, error: ErrorBody, until: datetime | None = None
    ) -> Job:  # fmt: skip
        return await interrupt(self._repository, job, failure, error, until=until)

    async def _fail(self, job: Job, failure: FailureClass, error: ErrorBody) -> Job:
        return await fail(self._repository, job, failure, error)


def may_start(job: Job, now: datetime) -> bool:
    """Return whether a job may get a slot now."""
    if job.cancel_requested:
        return False
    return job.state is State.QUEUED or (
        job.state is State.RETRYING and (job.not_before is None or now >= job.not_before)
    )


def _seconds_until(moment: datetime, now: datetime) -> float:
    return max(0.0, (moment - now).total_seconds())
