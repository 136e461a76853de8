"""Reconciler: keeps every unfinished job moving, on its events, after a delay and when a slot becomes free.

It is level-triggered: the next step follows from the job's state, the executor and the bucket, never from the event
that was seen. A missed wake-up costs seconds, not the job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from contracts.errors import SaccadeError
from contracts.ids import pipeline_id_of
from contracts.job import Job, State
from kit.tasks import first_of
from kit.tracing import span
from services.dispatcher.executors.executor import CallState, Executor
from services.dispatcher.jobs.job_repository import NotLeading
from services.dispatcher.jobs.requeue_after import RequeueAfter
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.lifecycle.lifecycle import Lifecycle, may_start
from services.dispatcher.scheduling.candidates import OCCUPYING, candidate_of
from services.dispatcher.scheduling.fair_queue import Limits
from services.dispatcher.scheduling.holds import Holds
from services.dispatcher.scheduling.slot_pools import SlotPools
from services.dispatcher.scheduling.work_queue import WorkQueue

log = logging.getLogger(__name__)

#: Jobs reconciled concurrently, besides those that hold slots; each waits mostly for NATS.
_CONCURRENCY: Final = 16
#: Delay before a job is tried again whose step failed on the bus, the bucket or the executor.
_ERROR_RETRY_S: Final = 0.5
#: Interval of the resync, which finds jobs that nothing would wake.
_RESYNC_S: Final = 2.0
#: Time for a worker to exit after its job has ended.
_LINGER_S: Final = 5.0
#: A new leader checks the workers of jobs that ended within this time, at most this many: the previous leader may have
#: died before it ended them.
_TAKEN_OVER: Final = timedelta(minutes=10)
_MOST_TAKEN_OVER: Final = 1000


@dataclass(frozen=True)
class JobCounts:
    """Unfinished jobs."""

    running: int
    waiting: int


class Reconciler:
    """Loop that reconciles jobs while it leads; otherwise it only updates what it knows of them."""

    def __init__(
        self,
        jobs: UnfinishedJobs,
        limits: Limits,
        lifecycle: Lifecycle,
        executor: Executor,
        *,
        is_connected: Callable[[], bool],
        pipelines: Container[str] = (),
        sessions: Container[str] = (),
        on_retention_changed: Callable[[str], None] = lambda _: None,
        executor_of: Callable[[Job], Executor] | None = None,
    ) -> None:
        """Reconcile ``jobs``; a worker's silence counts only while the bus is connected.

        Jobs of the workloads ``pipelines`` have no worker, so they neither wait for a slot nor hold one; those of
        ``sessions`` have slots of their own.
        ``on_retention_changed`` is called with the id of a job whose retention was changed or that was retried;
        ``executor_of`` returns the executor of a job that does not run on ``executor``.
        """
        self.on_retention_changed = on_retention_changed
        self._pipelines, self._sessions = pipelines, sessions
        self.jobs = jobs
        #: Orders of operators; no job that they concern is launched.
        self.holds = Holds()
        self.queue = SlotPools(limits, sessions, self._is_held)
        self.leading = False
        self._lifecycle = lifecycle
        self._executor_of: Callable[[Job], Executor] = executor_of or (lambda _: executor)
        self._is_connected = is_connected
        #: Calls of jobs that have ended, with the time by which their workers must have exited.
        self._lingering_calls: dict[str, tuple[Job, float]] = {}
        self._work = WorkQueue()
        #: Jobs that got a slot and have not used it yet.
        self._granted: set[str] = set()

    # ---- called by commands

    def follow(self, holds: Holds) -> None:
        """Follow orders of operators from now on; jobs that they do not hold any more are started at once."""
        if holds == self.holds:
            return
        self.holds = holds
        if self.leading:
            self._resync()
            # No slot grant wakes a pipeline, and a held one is requeued only for its deadline.
            for pipeline in filter(self._is_pipeline, self.jobs):
                self.enqueue(pipeline)
            self._grant_slots()

    def counts(self, workload: str | None = None) -> JobCounts:
        """Return how many jobs have a worker and how many wait for one, in all or of one workload; no pipelines."""
        states = Counter(
            job.state in OCCUPYING
            for job in self.jobs
            if not self._is_pipeline(job) and workload in (None, job.submitted.workload)
        )
        return JobCounts(states[True], states[False])

    # ---- called by on_job.py

    def enqueue(self, job: Job) -> None:
        """Queue a job for reconciliation."""
        if self.leading:
            self._update_slot(job)
            self._work.add(job.id, job.tenant, urgent=job.state is not State.SUBMITTED)

    def enqueue_unloaded(self, job_id: str, tenant: str) -> None:
        """Queue a job that is not in memory; the reconciliation loads it."""
        if self.leading:
            self._work.add(job_id, tenant, urgent=False)

    def record_heartbeat(self, job_id: str, run_id: str, progress: tuple[float, str] | None = None) -> None:
        """Record a heartbeat of a run, with fraction and message if it reported progress."""
        self.jobs.record_heartbeat(job_id, run_id, asyncio.get_running_loop().time(), progress)

    def on_ended(self, job_id: str, job: Job | None) -> None:
        """Free the slot of a job that has ended, watch its worker exit, and queue its pipeline.

        ``job`` is None when it was not in memory.
        """
        self._lifecycle.forget(job_id)
        if job and job.call_id:
            self._lingering_calls[job.call_id] = job, asyncio.get_running_loop().time() + _LINGER_S
        if not self.leading:
            if len(self._lingering_calls) > _MOST_TAKEN_OVER:
                del self._lingering_calls[next(iter(self._lingering_calls))]
            return
        if pipeline := self.jobs.get(pipeline_id_of(job_id) or ""):
            self.enqueue(pipeline)
        if job_id not in self._granted:
            self.queue.drop(job_id)
            self._grant_slots()

    # ---- leading

    async def lead(self) -> None:
        """Reconcile jobs until cancelled, starting with every unfinished job."""
        self.leading = True
        try:
            self._lifecycle.listening_since_s = asyncio.get_running_loop().time()
            await self._load_retried()
            # All running jobs take their slots before a waiting job gets one that only seems to be free.
            workers = [job for job in self.jobs if not self._is_pipeline(job)]
            for job in workers:
                if job.state in OCCUPYING:
                    self.queue.hold(candidate_of(job))
            # Every waiting job is queued before the first slot is granted: the queue's order decides, not this loop's.
            for job in workers:
                if may_start(job, self._lifecycle.now()):
                    self.queue.wait(candidate_of(job))
            self._resync()
            self._take_over_calls()
            loops = (self._reconcile_loop() for _ in range(_CONCURRENCY + self.queue.slots))
            await first_of(self._resync_loop(), self._end_lingering_calls_loop(), *loops)
        finally:
            self.leading = False
            self._work.clear()
            self._granted.clear()
            self.queue = SlotPools(self.queue.limits, self._sessions, self._is_held)

    def _take_over_calls(self) -> None:
        """Watch the workers of jobs that ended while another dispatcher led, or none."""
        since, until_s = self._lifecycle.now() - _TAKEN_OVER, asyncio.get_running_loop().time() + _LINGER_S
        ended = (job for job, _ in self._lingering_calls.values() if job.finished_at and job.finished_at >= since)
        self._lingering_calls = {job.call_id: (job, until_s) for job in ended if job.call_id}

    async def _load_retried(self) -> None:
        """Load the jobs that had ended and were retried: they may be running, and hold slots."""
        for job_id, tenant in list(self.jobs.unloaded.items()):
            try:
                await self._lifecycle.load(job_id, tenant)
            except SaccadeError as error:
                log.warning("%s is not loaded yet: %s", job_id, error.message)

    async def _resync_loop(self) -> None:
        while True:
            if not self._is_connected():
                self._lifecycle.listening_since_s = asyncio.get_running_loop().time()
            self._resync()
            await asyncio.sleep(_RESYNC_S)

    def _resync(self) -> None:
        """Queue every unfinished job that is not in the work queue."""
        for job in self.jobs:
            if job.id not in self._work:
                self.enqueue(job)
        for job_id, tenant in self.jobs.unloaded.items():
            if job_id not in self._work:
                self._work.add(job_id, tenant, urgent=False)

    async def _end_lingering_calls_loop(self) -> None:
        """Cancel calls whose worker does not exit after its job has ended.

        Runs beside the resync and checks several calls at once: an executor may answer slowly, and hundreds of jobs
        may end together.
        """
        semaphore = asyncio.Semaphore(_CONCURRENCY)

        async def end(call_id: str, job: Job, until_s: float) -> None:
            async with semaphore:
                await self._end_lingering_call(call_id, job, until_s)

        while True:
            await asyncio.gather(*(end(call_id, *call) for call_id, call in self._lingering_calls.items()))
            await asyncio.sleep(_RESYNC_S)

    async def _end_lingering_call(self, call_id: str, job: Job, until_s: float) -> None:
        try:
            executor = self._executor_of(job)
            overdue = asyncio.get_running_loop().time() >= until_s
            # Before a cancel the poll is urgent: a cached answer may be older than the job's end.
            if (await executor.poll(call_id, urgent=overdue)).state is CallState.RUNNING:
                if not overdue:
                    return
                log.warning("worker %s still runs %.0f s after the end of %s: ending it", call_id, _LINGER_S, job.id)
                await executor.cancel(call_id)
            del self._lingering_calls[call_id]
        except Exception:  # the executor does not answer; the next iteration tries again
            log.exception("could not check or cancel worker %s", call_id)

    async def _reconcile_loop(self) -> None:
        while True:
            job_id = await self._work.take()
            try:
                requeue = await self._reconcile(job_id)
            except NotLeading:
                self._retry_later(job_id)  # the lease ends this loop, or is renewed
            except SaccadeError as error:
                log.warning("%s waits: %s", job_id, error.message)
                self._retry_later(job_id)
            except Exception:  # one job must not stop the others
                log.exception("a step of %s failed", job_id)
                self._retry_later(job_id)
            else:
                self._work.done(job_id)
                self._after_step(job_id, requeue)

    async def _reconcile(self, job_id: str) -> RequeueAfter | None:
        job = self.jobs.get(job_id)
        tenant = job.tenant if job else self.jobs.unloaded.get(job_id)
        if tenant is None:
            return None
        with span("decide", parent=job.traceparent if job else None, attributes={"saccade.job_id": job_id}) as decision:
            requeue = await self._lifecycle.advance(job_id, tenant, granted=job_id in self._granted)
            if decision:
                decision.is_empty = self.jobs.get(job_id) is job
        return requeue

    def _retry_later(self, job_id: str) -> None:
        """Requeue a job after an error; it keeps its slot, so that it is not granted one again at once."""
        self._work.done(job_id)
        job = self.jobs.get(job_id)
        tenant = job.tenant if job else self.jobs.unloaded.get(job_id, "")
        urgent = job is not None and job.state is not State.SUBMITTED
        self._work.add_after(job_id, tenant, _ERROR_RETRY_S, urgent=urgent)

    def _after_step(self, job_id: str, requeue: RequeueAfter | None) -> None:
        """Update the job's slot and requeue it if the step asks for that."""
        self._granted.discard(job_id)
        job = self.jobs.get(job_id)
        if job is None:
            self.queue.drop(job_id)
            self._grant_slots()
            return
        self._update_slot(job)
        if requeue:
            self._work.add_after(job_id, job.tenant, requeue.after_s, urgent=job.state is not State.SUBMITTED)

    # ---- slots

    def _update_slot(self, job: Job) -> None:
        """Register a job as holding a slot, waiting for one, or neither."""
        if job.id in self._granted or self._is_pipeline(job):
            return
        candidate = candidate_of(job)
        if job.state in OCCUPYING:
            self.queue.hold(candidate)
        elif may_start(job, self._lifecycle.now()):
            self.queue.wait(candidate)
        else:
            self.queue.drop(job.id)
        self._grant_slots()

    def _is_held(self, workload: str) -> bool:
        return self.holds.applies_to(workload)

    def _is_pipeline(self, job: Job) -> bool:
        return job.submitted.workload in self._pipelines

    def _grant_slots(self) -> None:
        """Assign free slots to the next candidates."""
        while candidate := self.queue.take():
            self._granted.add(candidate.job_id)
            self._work.add(candidate.job_id, candidate.tenant, urgent=True)
