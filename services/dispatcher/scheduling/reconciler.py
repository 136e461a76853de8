"""Keeps every unfinished job moving: attends to it at its events, when its time comes and when a slot is free.

It is level-triggered: what is to be done follows from the job's state, the executor and the bucket, never from which
event was seen. A missed wake-up costs seconds, not the job.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container
from typing import Final

from contracts.errors import SaccadeError
from contracts.ids import pipeline_id_of
from contracts.job import Job, State
from kit.tasks import first_of
from services.dispatcher.executors.executor import CallState, Executor
from services.dispatcher.jobs.job_repository import NotLeading
from services.dispatcher.jobs.unfinished_jobs import Jobs
from services.dispatcher.lifecycle.lifecycle import Lifecycle, may_start
from services.dispatcher.scheduling.fair_queue import Candidate, FairQueue, Limits
from services.dispatcher.scheduling.requeue_after import Look
from services.dispatcher.scheduling.work_queue import Rounds

log = logging.getLogger(__name__)

#: Jobs attended to at once beside those that hold slots; each waits mostly for NATS.
_ATTENDANTS: Final = 16
#: A job whose step failed on the bus, the bucket or the executor is tried again after this.
_AGAIN_S: Final = 0.5
#: How often all jobs are looked through for one that nobody would attend to.
_SWEEP_S: Final = 2.0
#: A worker that has said its last word has this long to be gone.
_LINGER_S: Final = 5.0
#: States in which a worker may be there.
_OCCUPYING: Final = frozenset({State.STARTING, State.WAITING_FOR_GPU, State.RUNNING, State.INTERRUPTED})


class Reconciler:
    """Attends to jobs while it leads; otherwise it only keeps count."""

    def __init__(
        self,
        jobs: Jobs,
        limits: Limits,
        lifecycle: Lifecycle,
        executor: Executor,
        *,
        is_connected: Callable[[], bool],
        pipelines: Container[str] = (),
        on_retention: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Watch over ``jobs``; a worker's silence counts only while we are connected.

        Jobs of the workloads ``pipelines`` have no worker, so they neither wait for a slot nor hold one. Of every
        decision about what is kept of an ended job ``on_retention`` is told.
        """
        self.tidy = on_retention
        self._pipelines = pipelines
        self.jobs = jobs
        self.queue = FairQueue(limits)
        self.leading = False
        self._lifecycle = lifecycle
        self._executor = executor
        self._is_connected = is_connected
        #: Calls of jobs that have ended, and until when their workers may take to be gone.
        self._leftovers: dict[str, float] = {}
        self._rounds = Rounds()
        self._granted: set[str] = set()

    # ---- what on_job.py tells

    def attend(self, job: Job) -> None:
        """Bring a job further, soon."""
        if self.leading:
            self._place(job)
            self._rounds.add(job.id, job.tenant, urgent=job.state is not State.SUBMITTED)

    def attend_unread(self, job_id: str, tenant: str) -> None:
        """Read a job that was forgotten."""
        if self.leading:
            self._rounds.add(job_id, tenant, urgent=False)

    def hear(self, job_id: str, run_id: str, progress: tuple[float, str] | None = None) -> None:
        """Note a sign of life."""
        self.jobs.hear(job_id, run_id, asyncio.get_running_loop().time(), progress)

    def leave(self, job_id: str, job: Job | None) -> None:
        """Free the slot of a job that has ended; its worker has a moment to be gone. Its pipeline, if any, goes on."""
        self._lifecycle.forget(job_id)
        if not self.leading:
            return
        if pipeline := self.jobs.get(pipeline_id_of(job_id) or ""):
            self.attend(pipeline)
        if job and job.call_id:
            self._leftovers[job.call_id] = asyncio.get_running_loop().time() + _LINGER_S
        if job_id not in self._granted:
            self.queue.drop(job_id)
            self._fill()

    # ---- leading

    async def lead(self) -> None:
        """Attend to jobs until cancelled; begins with every job there is."""
        self.leading = True
        try:
            self._lifecycle.listening_since_s = asyncio.get_running_loop().time()
            # All that run are counted before the first that waits is given what seems to be free.
            for job in self.jobs:
                if job.state in _OCCUPYING and not self._is_pipeline(job):
                    self.queue.hold(_candidate(job))
            self._sweep()
            attendants = (self._attend_in_turn() for _ in range(_ATTENDANTS + self.queue.limits.slots))
            await first_of(self._watch_over(), self._see_off(), *attendants)
        finally:
            self.leading = False
            self._rounds.clear()
            self._granted.clear()
            self.queue = FairQueue(self.queue.limits)

    async def _watch_over(self) -> None:
        """Look through all jobs now and then, whatever was heard."""
        while True:
            if not self._is_connected():
                self._lifecycle.listening_since_s = asyncio.get_running_loop().time()
            self._sweep()
            await asyncio.sleep(_SWEEP_S)

    async def _see_off(self) -> None:
        """End workers that have said their last word and do not go.

        Beside the sweep and several at once: an executor may take its time to answer, and hundreds may end together.
        """
        room = asyncio.Semaphore(_ATTENDANTS)

        async def one(call_id: str, until_s: float) -> None:
            async with room:
                await self._see_one_off(call_id, until_s)

        while True:
            await asyncio.gather(*(one(call_id, until_s) for call_id, until_s in self._leftovers.items()))
            await asyncio.sleep(_SWEEP_S)

    async def _see_one_off(self, call_id: str, until_s: float) -> None:
        try:
            overdue = asyncio.get_running_loop().time() >= until_s
            # What is about to be ended is asked about anew: an answer may be older than the job's end.
            if (await self._executor.poll(call_id, urgent=overdue)).state is CallState.RUNNING:
                if not overdue:
                    return
                log.warning("worker %s has ended its job and does not go: ending it", call_id)
                await self._executor.cancel(call_id)
            del self._leftovers[call_id]
        except Exception:  # the executor is away; the next look finds it back
            log.exception("worker %s could not be seen off", call_id)

    def _sweep(self) -> None:
        for job in self.jobs:
            if job.id not in self._rounds:
                self.attend(job)
        for job_id, tenant in self.jobs.unread.items():
            if job_id not in self._rounds:
                self._rounds.add(job_id, tenant, urgent=False)

    async def _attend_in_turn(self) -> None:
        while True:
            job_id = await self._rounds.take()
            try:
                again = await self._attend_one(job_id)
            except NotLeading:
                self._try_again(job_id)  # the lease ends this loop, or comes back
            except SaccadeError as error:
                log.warning("%s waits: %s", job_id, error.message)
                self._try_again(job_id)
            except Exception:  # whatever it is, one job must not stop the others
                log.exception("a step of %s failed", job_id)
                self._try_again(job_id)
            else:
                self._rounds.done(job_id)
                self._after(job_id, again)

    def _try_again(self, job_id: str) -> None:
        """Come back to a job in a while; it keeps the slot that it was given, so that it is not given one at once."""
        self._rounds.done(job_id)
        job = self.jobs.get(job_id)
        tenant = job.tenant if job else self.jobs.unread.get(job_id, "")
        self._rounds.later(job_id, tenant, _AGAIN_S, urgent=job is not None and job.state is not State.SUBMITTED)

    async def _attend_one(self, job_id: str) -> Look | None:
        job = self.jobs.get(job_id)
        tenant = job.tenant if job else self.jobs.unread.get(job_id)
        if tenant is None:
            return None
        return await self._lifecycle.attend(job_id, tenant, granted=job_id in self._granted)

    def _after(self, job_id: str, again: Look | None) -> None:
        """Count the job anew and plan when to look at it next."""
        self._granted.discard(job_id)
        job = self.jobs.get(job_id)
        if job is None:
            self.queue.drop(job_id)
            self._fill()
            return
        self._place(job)
        if again:
            self._rounds.later(job_id, job.tenant, again.after_s, urgent=job.state is not State.SUBMITTED)

    # ---- slots

    def _place(self, job: Job) -> None:
        """Count a job as holding a slot, as waiting for one, or as neither."""
        if job.id in self._granted or self._is_pipeline(job):
            return
        candidate = _candidate(job)
        if job.state in _OCCUPYING:
            self.queue.hold(candidate)
        elif may_start(job, self._lifecycle.now()):
            self.queue.wait(candidate)
        else:
            self.queue.drop(job.id)
        self._fill()

    def _is_pipeline(self, job: Job) -> bool:
        return job.submitted.workload in self._pipelines

    def _fill(self) -> None:
        """Give free slots to whose turn it is."""
        while candidate := self.queue.take():
            self._granted.add(candidate.job_id)
            self._rounds.add(candidate.job_id, candidate.tenant, urgent=True)


def _candidate(job: Job) -> Candidate:
    return Candidate(
        job_id=job.id,
        tenant=job.tenant,
        workload=job.submitted.workload,
        priority=job.submitted.priority,
        age=job.first_sequence,
    )
