"""Check of the order in which jobs got their slots, by today's queue and limits.

A dispatcher chooses at a moment that no event tells: some of its launches were on their way, and a new leader does not
know which tenant was served last. So today's queue is asked whether it chooses the recorded job in one of the states
that the dispatcher may have seen, with the history that suits the job best; only if it never does, it differs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable
from datetime import datetime, timedelta
from typing import Final

from contracts.job import Job, State
from services.dispatcher.lifecycle.lifecycle import may_start
from services.dispatcher.scheduling.candidates import OCCUPYING, candidate_of
from services.dispatcher.scheduling.fair_queue import Candidate, Limits
from services.dispatcher.scheduling.slot_pools import SlotPools

#: Time within which the order of launches and ends may have been another one to the dispatcher.
RACE_S: Final = 1.0


class SlotCheck:
    """Slots of the record, and today's queue beside them."""

    def __init__(
        self,
        limits: Limits,
        is_held: Callable[[str], bool],
        starts_at: Callable[[Job], datetime | None],
        sessions: Container[str] = (),
    ) -> None:
        """``starts_at`` returns when a waiting job leaves its place in the record; None if never in the window.

        Jobs of the workloads ``sessions`` have slots of their own.
        """
        self._limits = limits
        self._is_held = is_held
        self._starts_at = starts_at
        self._sessions = sessions
        self._queue = SlotPools(limits, sessions, is_held)
        self._waiting: dict[str, Job] = {}
        #: Since when they wait.
        self._waiting_since: dict[str, datetime] = {}
        self._holding: dict[str, Candidate] = {}
        #: Jobs that hold a slot since a moment ago, and those that held one until then.
        self._new: dict[str, tuple[datetime, Job]] = {}
        self._gone: dict[str, tuple[datetime, Candidate]] = {}
        self._timers: list[tuple[datetime, str, int, Job]] = []
        #: Sequences of the jobs that wait for their delay to pass.
        self._delayed: dict[str, int] = {}
        #: Jobs to which today's queue gives a slot, since when.
        self.granted: dict[str, tuple[datetime, Job]] = {}

    # ---- the record goes on

    def pass_time(self, now: datetime) -> None:
        """Add the jobs whose delay is over to those that wait."""
        while self._timers and self._timers[0][0] <= now:
            due, job_id, _, job = heapq.heappop(self._timers)
            # Anything may have happened since: it may have been cancelled.
            if self._delayed.get(job_id) == job.sequence:
                self._wait(job, due)

    def fold(self, job: Job, now: datetime) -> None:
        """Follow a job after one of its events."""
        candidate = candidate_of(job)
        self._delayed.pop(job.id, None)
        if job.state in OCCUPYING:
            if job.id not in self._holding:
                self._new[job.id] = now, job
            self._leave(job.id)
            self._holding[job.id] = candidate
            self._queue.hold(candidate)
        else:
            if job.id in self._holding:
                self._gone[job.id] = now, self._holding.pop(job.id)
            if may_start(job, now):
                self._wait(job, now)
            else:
                self._leave(job.id)
                self._queue.drop(job.id)
                if job.state is State.RETRYING and job.not_before and not job.cancel_requested:
                    self._delayed[job.id] = job.sequence
                    heapq.heappush(self._timers, (job.not_before, job.id, job.sequence, job))
        self.grant(now)

    def grant(self, now: datetime) -> None:
        """Assign free slots by today's rules."""
        while taken := self._queue.take():
            if job := self._waiting.get(taken.job_id):
                self.granted[taken.job_id] = now, job

    def is_chosen(self, job: Job, now: datetime) -> bool:
        """Return whether today's queue may give a slot to a job that got one now."""
        if self.granted.pop(job.id, None):
            return True
        if not any(self._may_choose(job, holding, waiting, now) for holding, waiting in self._states(job, now)):
            return False
        # Somebody else waits on: the queue chose it, and the record this one.
        rivals = [(since, other.id) for other, since in self._granted_jobs() if not self._leaves_soon(other, now)]
        if rivals:
            other = self.granted.pop(max(rivals)[1])[1]
            self._queue.drop(other.id)
            self._queue.wait(candidate_of(other))
        return True

    def give_back(self, job_id: str, now: datetime) -> None:
        """Return a job to those that wait: the record gave it no slot."""
        granted = self.granted.pop(job_id, None)
        if granted:
            self._queue.drop(job_id)
            self._queue.wait(candidate_of(granted[1]))
            # Not asked again at once: it would be chosen again.
            self.granted[job_id] = now + timedelta(days=365_0), granted[1]

    # ---- today's choice

    def _granted_jobs(self) -> Iterable[tuple[Job, datetime]]:
        return [(job, since) for since, job in self.granted.values()]

    def _leaves_soon(self, job: Job, now: datetime) -> bool:
        if job.id in self._new:
            return True  # it has just left
        leaves = self._starts_at(job)
        return leaves is not None and leaves - now <= timedelta(seconds=RACE_S)

    def _states(self, job: Job, now: datetime) -> Iterable[tuple[dict[str, Candidate], dict[str, Job]]]:
        """Yield the jobs that hold a slot and those that wait, as the dispatcher may have seen them."""
        recently = now - timedelta(seconds=RACE_S)
        self._new = {job_id: each for job_id, each in self._new.items() if each[0] >= recently}
        self._gone = {job_id: each for job_id, each in self._gone.items() if each[0] >= recently}
        holding = {job_id: each for job_id, each in self._holding.items() if job_id != job.id}
        waiting = {**self._waiting, job.id: job}
        yield holding, waiting
        # Of several jobs that began to wait together, one was known first.
        fresh = {job_id for job_id in self._waiting if self._waiting_since[job_id] >= recently}
        yield holding, {job_id: each for job_id, each in waiting.items() if job_id not in fresh or each is job}
        new = {job_id: each for job_id, (_, each) in self._new.items() if job_id in holding}
        yield {each: holding[each] for each in holding if each not in new}, {**waiting, **new}
        gone = {job_id: each for job_id, (_, each) in self._gone.items() if job_id not in waiting}
        yield {**holding, **gone}, waiting
        # Their slots were free before they waited again: two steps of a dispatcher, of which another job came between.
        yield holding, {job_id: each for job_id, each in waiting.items() if job_id not in self._gone or each is job}
        soon = [other for other in self._waiting.values() if other.id != job.id and self._leaves_soon(other, now)]
        if soon:
            yield (
                {**holding, **{other.id: candidate_of(other) for other in soon}},
                {job_id: each for job_id, each in waiting.items() if each not in soon},
            )

    def _may_choose(self, job: Job, holding: dict[str, Candidate], waiting: dict[str, Job], now: datetime) -> bool:
        queue = SlotPools(self._limits, self._sessions, self._is_held)
        # The history that suits the job: its tenant was served longest ago.
        for candidate in sorted(holding.values(), key=lambda each: each.tenant != job.tenant):
            queue.hold(candidate)
        for other in sorted(waiting.values(), key=lambda each: each.tenant != job.tenant):
            queue.wait(candidate_of(other))
        while taken := queue.take():
            if taken.job_id == job.id:
                return True
            if not self._leaves_soon(waiting[taken.job_id], now):
                return False
        return False

    def _wait(self, job: Job, now: datetime) -> None:
        if job.id not in self._waiting and job.id not in self._holding:
            self._waiting[job.id] = job
            self._waiting_since[job.id] = now
            self._queue.wait(candidate_of(job))
            self.grant(now)
        elif job.id in self._waiting:
            self._waiting[job.id] = job

    def _leave(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)
        self._waiting_since.pop(job_id, None)
        self.granted.pop(job_id, None)
