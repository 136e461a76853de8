"""Moves one job one step further: looks, decides by the pure rules, acts, and says so by conditional publish.

Each step begins from the job's events alone, so that it does not matter which dispatcher made the step before, or
between which two lines that one died. Whoever loses a conditional publish reads the job again and decides again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.assignment import Assignment
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import (
    FailureClass,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobLaunched,
    JobQueued,
    JobStarting,
    JobWaitingForGpu,
)
from contracts.ids import new_id
from contracts.job import Job, State, retry
from contracts.limits import WORKER_GRACE_S, WORKER_HEARTBEAT_S
from contracts.workload import Workload
from kit.bucket import Bucket
from kit.bus.event_store import Conflict
from services.dispatcher.costs import cost
from services.dispatcher.costs.price_list import PriceList
from services.dispatcher.executors.executor import CallState, CallStatus, Executor, LaunchFailed, Throttled
from services.dispatcher.jobs.job_repository import Ledger
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.lifecycle.failure_messages import error_of, loss_of, over_cap, reason_of, too_dear
from services.dispatcher.lifecycle.liveness import Patience, Sighting, Verdict, judge
from services.dispatcher.lifecycle.recovered_result import left_result
from services.dispatcher.lifecycle.retry import Again, Attempt, Backoff, next_step, past_deadline
from services.dispatcher.pipelines.pipeline_lifecycle import Pipelines
from services.dispatcher.scheduling.gpu_ladder import Rung, above, following, rung_of
from services.dispatcher.scheduling.requeue_after import Look, Outcome

log = logging.getLogger(__name__)

#: A worker that was not heard for so long is asked about at once, where asking costs.
_QUIET_S: Final = 3 * WORKER_HEARTBEAT_S
#: Lost conditional publishes in one go after which a job waits for its next turn.
_CONFLICTS = 10


@dataclass(frozen=True)
class Rules:
    """What the operator decides."""

    patience: Patience
    backoff: Backoff
    poll_s: float


class Lifecycle:
    """Steps of jobs. One job is stepped by one caller at a time."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        bucket: Bucket,
        executor: Executor,
        workloads: Mapping[str, Workload],
        jobs: Jobs,
        rules: Rules,
        waiting_of: Callable[[str], int],
        on_pipeline_end: Callable[[Job], None] = lambda _: None,
    ) -> None:
        """Bring together what a step needs; ``waiting_of`` counts a tenant's waiting jobs."""
        self._ledger = ledger
        self._pipelines = Pipelines(
            ledger=ledger, bucket=bucket, jobs=jobs, workloads=workloads, on_end=on_pipeline_end
        )
        self._bucket = bucket
        self._executor = executor
        self.prices = PriceList(executor.name)
        self._workloads = workloads
        self._jobs = jobs
        self._rules = rules
        self._waiting_of = waiting_of
        self._chance = random.Random()  # noqa: S311 - spreads retries, keeps no secret
        #: Run and call that were launched and could not be noted yet, by job.
        self._calls: dict[str, tuple[str, str]] = {}
        #: For how long the executor takes no launch, by job, from its refusal until that is settled.
        self._refused_s: dict[str, float] = {}
        #: Since when workers could be heard, by the event loop's clock.
        self.listening_since_s = 0.0

    async def attend(self, job_id: str, tenant: str, *, granted: bool) -> Look | None:
        """Bring a job as far as it can come now; with ``granted`` it may take a slot.

        Raises:
            NotLeading: somebody else may act.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        job = self._jobs.get(job_id) or await self._ledger.load_whole(job_id, tenant)
        conflicts = 0
        while job is not None and not job.state.ended:
            try:
                outcome = await self._step(job, granted)
            except Conflict:
                conflicts += 1
                if conflicts > _CONFLICTS:
                    return Look(self._rules.poll_s)
                job = await self._ledger.load(job.id, job.tenant)
                continue
            if not isinstance(outcome, Job):
                return outcome
            if outcome.state is State.INTERRUPTED:
                granted = False
            job = outcome
        return None

    def now(self) -> datetime:
        """Give the time of day by which jobs are stepped."""
        return self._ledger.clock()

    def forget(self, job_id: str) -> None:
        """Forget what was kept of a job whose attempt is over."""
        self._calls.pop(job_id, None)
        self._refused_s.pop(job_id, None)
        self._pipelines.forget(job_id)

    async def _step(self, job: Job, granted: bool) -> Outcome:
        workload = self._workloads.get(job.submitted.workload)
        if workload is None:
            await self._stop(job)
            message = f"This dispatcher does not know the workload {job.submitted.workload!r}."
            return await self._fail(job, "broken", error_of(ErrorCode.UNKNOWN_WORKLOAD, message))
        pipeline = workload.kind == "pipeline"
        match job.state:
            case State.SUBMITTED | State.QUEUED | State.RETRYING:
                return await self._wait(job, workload, granted or pipeline)
            case _ if pipeline:
                return await self._pipelines.step(job, workload)
            case State.STARTING | State.WAITING_FOR_GPU | State.RUNNING:
                return await self._watch(job, workload)
            case State.INTERRUPTED:
                return await self._settle(job, workload)
            case _:
                return None

    # ---- a job without a worker

    async def _wait(self, job: Job, workload: Workload, granted: bool) -> Outcome:
        now = self.now()
        if job.cancel_requested:
            return await self._ledger.say(job, JobCancelled(attempt=job.attempt))
        if job.deadline and now >= job.deadline:
            late = past_deadline()
            return await self._fail(job, late.failure, late.error)
        if cost.cap_is_spent(job):
            return await self._fail(job, "user", over_cap(job))
        if job.state is State.SUBMITTED:
            return await self._ledger.say(job, JobQueued(position=self._waiting_of(job.tenant) + 1))
        if job.not_before and now < job.not_before:
            return Look(_until(job.not_before, now))
        if granted and workload.kind == "pipeline":
            return await self._pipelines.start(job)
        if granted and not await self._pipelines.wants(job):
            return await self._ledger.say(job, JobCancelled(attempt=job.attempt))
        if granted:
            return await self._start(job, workload)
        return Look(_until(job.deadline, now)) if job.deadline else None

    async def _start(self, job: Job, workload: Workload) -> Outcome:
        """Say that an attempt begins, begin it, say how it is found again: a crash in between is repaired by that."""
        run_id = new_id("run")
        attempt = job.attempt + 1
        try:
            rung = rung_of(self.prices, self._executor.devices(workload.compute, job.submitted.gpu), job.rung)
        except SaccadeError as error:
            return await self._fail(job, "broken", error.body())
        if not cost.is_affordable(job, rung.usd_per_s):
            return await self._fail(job, "user", over_cap(job))
        starting = JobStarting(
            attempt=attempt,
            run_id=run_id,
            executor=self._executor.name,
            device=rung.device,
            rung=rung.number,
            usd_per_s=rung.usd_per_s,
        )
        job = await self._ledger.say(job, starting, event_id=f"{run_id}.starting")
        assignment = Assignment(
            job_id=job.id,
            tenant=job.tenant,
            workload=workload.name,
            attempt=attempt,
            run_id=run_id,
            device=rung.device,
            usd_per_s=rung.usd_per_s,
            left_usd=cost.left_usd(job),
            params=job.submitted.params,
            inputs=job.submitted.inputs,
            part_of=job.submitted.part_of,
        )
        try:
            call_id = await self._executor.launch(assignment, workload.compute)
        except Throttled as error:
            self._refused_s[job.id] = error.retry_after_s
            return await self._interrupt(job, "throttled", error_of(ErrorCode.WORKER_NOT_STARTED, str(error)))
        except LaunchFailed as error:
            return await self._interrupt(job, "not_started", error_of(ErrorCode.WORKER_NOT_STARTED, str(error)))
        self._calls[job.id] = (run_id, call_id)
        return await self._note_call(job, call_id)

    # ---- a job with a worker

    async def _watch(self, job: Job, workload: Workload) -> Outcome:
        call_id = await self._call_of(job)
        if call_id and not job.call_id:
            return await self._note_call(job, call_id)
        silent_s = self._silent_s(job)
        urgent = job.state is State.RUNNING and silent_s > _QUIET_S
        status = await self._executor.poll(call_id, urgent=urgent) if call_id else None
        higher = self._above(job, workload) if job.state.launching else None
        sighting = Sighting(
            status, silent_s, queues=self._executor.queues, next_device=higher.device if higher else None
        )
        verdict = judge(job, workload.compute, sighting, self.now(), self._rules.patience)
        match verdict:
            case Verdict.WELL:
                return Look(self._rules.poll_s)
            case Verdict.CANCEL:
                return await self._cancel(job)
            case Verdict.ENDED:
                return await self._take_up(job, status or CallStatus(CallState.ENDED))
            case Verdict.WAITING_FOR_GPU:
                return await self._tell_waiting(job, higher)
            case _:
                failure, error = reason_of(verdict, job, workload.compute)
                return await self._interrupt(job, failure, error)

    async def _tell_waiting(self, job: Job, higher: Rung | None) -> Outcome:
        """Say that the device is not to be had, how many wait for it, and what is tried next."""
        assert job.run_id
        assert job.device
        assert job.starting_at
        backlog = await self._executor.backlog(job.submitted.workload, job.device)
        climb_at = job.starting_at + timedelta(seconds=self._rules.patience.gpu_climb_s)
        waiting = JobWaitingForGpu(
            attempt=job.attempt,
            run_id=job.run_id,
            device=job.device,
            waited_s=round((self.now() - job.starting_at).total_seconds(), 1),
            backlog=backlog.inputs if backlog else None,
            workers=backlog.workers if backlog else None,
            next_device=higher.device if higher else None,
            next_at=climb_at if higher else None,
        )
        return await self._ledger.say(job, waiting)

    def _above(self, job: Job, workload: Workload) -> Rung | None:
        return above(job, self.prices, self._devices(job, workload))

    def _devices(self, job: Job, workload: Workload) -> tuple[str, ...]:
        return self._executor.devices(workload.compute, job.submitted.gpu)

    async def _cancel(self, job: Job) -> Outcome:
        """Stop the worker, then say so. A worker that was at work says itself what it used; else we do."""
        await self._stop(job)
        now = await self._ledger.load(job.id, job.tenant)
        if now is None or now.state.ended:
            return now
        if now.state is not State.RUNNING:
            return await self._ledger.say(now, JobCancelled(attempt=now.attempt))
        return await self._interrupt(now, "preempted", error_of(ErrorCode.WORKER_LOST, "The job was cancelled."))

    async def _take_up(self, job: Job, status: CallStatus) -> Outcome:
        """Take up what a worker that is gone left half said."""
        now = await self._ledger.load(job.id, job.tenant)
        if now is None or now.sequence != job.sequence:
            return now  # its last words arrived in the meantime
        if done := await left_result(self._bucket, job):
            return await self._ledger.say(job, done)
        failure, error = loss_of(status, job.state)
        return await self._interrupt(job, failure, error)

    async def _settle(self, job: Job, workload: Workload) -> Outcome:
        """Decide what follows an attempt, once its worker and all its children are gone."""
        await self._stop(job)
        retry_after_s = self._refused_s.get(job.id) if job.failure == "throttled" else None
        self.forget(job.id)
        if job.cancel_requested:
            return await self._ledger.say(job, JobCancelled(attempt=job.attempt))
        if job.failure in ("preempted", "lost") and (done := await left_result(self._bucket, job)):
            return await self._ledger.say(job, done)
        now = self.now()
        higher = self._above(job, workload)
        ended = Attempt(
            failure=job.failure or "lost",
            error=job.error or error_of(ErrorCode.WORKER_LOST, ""),
            number=job.attempt - job.first_attempt + 1,
            of=workload.max_attempts,
            deadline=job.deadline or job.submitted.deadline,
            rung=job.rung,
            rung_above=higher.number if higher else None,
            retry_after_s=retry_after_s,
            has_rungs=job.device not in (cost.CPU, cost.LOCAL, None),
        )
        step = next_step(ended, now, self._rules.backoff, self._chance.random())
        if isinstance(step, Again):
            again = retry(
                job, after=ended.failure, delay_s=round(step.delay_s, 3), now=now, deadline_s=0.0, rung=step.rung
            )
            return await self._ledger.say(job, again)
        dear = following(job, self.prices, self._devices(job, workload))
        if step.failure == "out_of_memory" and higher is None and dear:
            return await self._fail(job, step.failure, too_dear(step.error, dear.device, job))
        return await self._fail(job, step.failure, step.error)

    async def _call_of(self, job: Job) -> str | None:
        """Name the call of the current run: noted, remembered, or found."""
        if job.run_id is None:
            return None
        if job.call_id:
            return job.call_id
        run_id, call_id = self._calls.get(job.id, ("", ""))
        return call_id if run_id == job.run_id else await self._executor.find(job.run_id)

    async def _stop(self, job: Job) -> None:
        """End the current run's worker; nothing happens when there is none."""
        self._ledger.check()
        if call_id := await self._call_of(job):
            await self._executor.cancel(call_id)

    def _silent_s(self, job: Job) -> float:
        """Count the seconds in which the worker could have been heard and was not."""
        heard = self._jobs.heard(job)
        heard_s = heard.at_s if heard else 0.0
        return asyncio.get_running_loop().time() - max(heard_s, self.listening_since_s)

    # ---- what is said

    async def _note_call(self, job: Job, call_id: str) -> Job:
        assert job.run_id
        return await self._ledger.say(job, JobLaunched(attempt=job.attempt, run_id=job.run_id, call_id=call_id))

    async def _interrupt(self, job: Job, failure: FailureClass, error: ErrorBody) -> Job:
        assert job.run_id
        used = cost.cost_of(job, cost.seconds_of(job, self.now())) if job.started_at else None
        data = JobInterrupted(attempt=job.attempt, run_id=job.run_id, failure=failure, error=error, cost=used)
        return await self._ledger.say(job, data)

    async def _fail(self, job: Job, failure: FailureClass, error: ErrorBody) -> Job:
        if failure == "broken":
            log.error("a worker of %s is broken: %s", job.submitted.workload, error.message, extra={"job_id": job.id})
        return await self._ledger.say(job, JobFailed(attempt=job.attempt, failure=failure, error=error))


def may_start(job: Job, now: datetime) -> bool:
    """Tell whether a job may have a slot now."""
    if job.cancel_requested:
        return False
    return job.state is State.QUEUED or (
        job.state is State.RETRYING and (job.not_before is None or now >= job.not_before)
    )


def _until(moment: datetime, now: datetime) -> float:
    return max(0.0, (moment - now).total_seconds())


#: From the decision to stop a worker to its end, at most: the grace it has and a little for the way.
REACTION_S = WORKER_GRACE_S + 1.0
