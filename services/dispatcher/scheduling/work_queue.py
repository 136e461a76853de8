"""Which job is attended to next: those that are under way first, the others tenant by tenant; never one job twice."""

from __future__ import annotations

import asyncio
from collections import deque


class Rounds:
    """Jobs to be attended to, now or later. A job that is asked for while it is attended to comes again."""

    def __init__(self) -> None:
        """Start empty."""
        self._urgent: deque[str] = deque()
        self._others: dict[str, deque[str]] = {}
        self._tenants: deque[str] = deque()
        self._listed: set[str] = set()
        self._busy: set[str] = set()
        self._again: dict[str, tuple[str, bool]] = {}
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._takers: deque[asyncio.Future[None]] = deque()

    def __contains__(self, job_id: str) -> bool:
        """Tell whether the job's turn comes, or is now."""
        return job_id in self._listed or job_id in self._busy or job_id in self._later

    def add(self, job_id: str, tenant: str, *, urgent: bool) -> None:
        """Ask for a job as soon as possible."""
        if timer := self._later.pop(job_id, None):
            timer.cancel()
        if job_id in self._busy:
            self._again[job_id] = (tenant, urgent)
            return
        if job_id in self._listed:
            return
        self._listed.add(job_id)
        if urgent:
            self._urgent.append(job_id)
        else:
            if tenant not in self._others:
                self._others[tenant] = deque()
                self._tenants.append(tenant)
            self._others[tenant].append(job_id)
        self._wake_one()

    def later(self, job_id: str, tenant: str, after_s: float, *, urgent: bool) -> None:
        """Ask for a job after a while, unless it is asked for anyway."""
        if job_id in self._listed or job_id in self._again:
            return
        if timer := self._later.pop(job_id, None):
            timer.cancel()

        def now() -> None:
            self._later.pop(job_id, None)
            self.add(job_id, tenant, urgent=urgent)

        self._later[job_id] = asyncio.get_running_loop().call_later(after_s, now)

    async def take(self) -> str:
        """Wait for the next job; ``done`` must follow."""
        while not self._listed:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._wake_one()  # it was called and cannot come
                raise
        job_id = self._urgent.popleft() if self._urgent else self._next_other()
        self._listed.discard(job_id)
        self._busy.add(job_id)
        return job_id

    def _wake_one(self) -> None:
        """Call one of those who wait: there is one more job, and there may be hundreds of them."""
        while self._takers:
            waiting = self._takers.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def _next_other(self) -> str:
        tenant = self._tenants.popleft()
        line = self._others[tenant]
        job_id = line.popleft()
        if line:
            self._tenants.append(tenant)
        else:
            del self._others[tenant]
        return job_id

    def done(self, job_id: str) -> None:
        """End a turn."""
        self._busy.discard(job_id)
        if again := self._again.pop(job_id, None):
            self.add(job_id, again[0], urgent=again[1])

    def clear(self) -> None:
        """Forget everything."""
        for timer in self._later.values():
            timer.cancel()
        self._urgent.clear()
        self._others.clear()
        self._tenants.clear()
        for known in (self._listed, self._busy):
            known.clear()
        self._again.clear()
        self._later.clear()
