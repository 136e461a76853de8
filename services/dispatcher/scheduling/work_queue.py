"""Work queue of jobs to reconcile: jobs that have started first, then tenants in turn; a job has one worker at a time.

Modelled on the work queue of Kubernetes' controller-runtime (add, add after a delay, take, done).
"""

from __future__ import annotations

import asyncio
from collections import deque


class WorkQueue:
    """Jobs to reconcile now or later. A job that is added while it is reconciled is queued again afterwards."""

    def __init__(self) -> None:
        """Create an empty queue."""
        self._urgent: deque[str] = deque()
        self._by_tenant: dict[str, deque[str]] = {}
        self._tenants: deque[str] = deque()
        self._queued: set[str] = set()
        self._processing: set[str] = set()
        self._requeue: dict[str, tuple[str, bool]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __contains__(self, job_id: str) -> bool:
        """Return whether the job is queued, delayed or being reconciled."""
        return job_id in self._queued or job_id in self._processing or job_id in self._timers

    def add(self, job_id: str, tenant: str, *, urgent: bool) -> None:
        """Queue a job, which cancels its delay."""
        if timer := self._timers.pop(job_id, None):
            timer.cancel()
        if job_id in self._processing:
            self._requeue[job_id] = (tenant, urgent)
            return
        if job_id in self._queued:
            return
        self._queued.add(job_id)
        if urgent:
            self._urgent.append(job_id)
        else:
            if tenant not in self._by_tenant:
                self._by_tenant[tenant] = deque()
                self._tenants.append(tenant)
            self._by_tenant[tenant].append(job_id)
        self._wake_one()

    def add_after(self, job_id: str, tenant: str, after_s: float, *, urgent: bool) -> None:
        """Queue a job after a delay, unless it is queued already; a new delay replaces the previous one."""
        if job_id in self._queued or job_id in self._requeue:
            return
        if timer := self._timers.pop(job_id, None):
            timer.cancel()

        def add_now() -> None:
            self._timers.pop(job_id, None)
            self.add(job_id, tenant, urgent=urgent)

        self._timers[job_id] = asyncio.get_running_loop().call_later(after_s, add_now)

    async def take(self) -> str:
        """Wait for the next job and return its id; the caller must call ``done`` afterwards."""
        while not self._queued:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_one()  # the job that woke this waiter goes to another one
                raise
        job_id = self._urgent.popleft() if self._urgent else self._next_of_tenants()
        self._queued.discard(job_id)
        self._processing.add(job_id)
        return job_id

    def _wake_one(self) -> None:
        """Wake one waiter: one job was added, and hundreds of waiters may exist."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _next_of_tenants(self) -> str:
        tenant = self._tenants.popleft()
        jobs = self._by_tenant[tenant]
        job_id = jobs.popleft()
        if jobs:
            self._tenants.append(tenant)
        else:
            del self._by_tenant[tenant]
        return job_id

    def done(self, job_id: str) -> None:
        """Mark a job as reconciled; queue it again if it was added meanwhile."""
        self._processing.discard(job_id)
        if requeued := self._requeue.pop(job_id, None):
            self.add(job_id, requeued[0], urgent=requeued[1])

    def clear(self) -> None:
        """Remove all jobs and delays."""
        for timer in self._timers.values():
            timer.cancel()
        self._urgent.clear()
        self._by_tenant.clear()
        self._tenants.clear()
        self._queued.clear()
        self._processing.clear()
        self._requeue.clear()
        self._timers.clear()
