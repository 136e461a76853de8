"""Account of a tenant: what its workers have cost by day, and what is reserved for its running attempts. Pure.

It is folded from the tenant's job events in the stream's order, and agrees with ``Job.costs``: the cost of an attempt
counts once, on the day (UTC) on which the server stored the event that settles it, however often its end is reported:
a worker's clock, which may be wrong, moves no money to another day or month, and meters no time that has not passed. Of
a pipeline only the jobs of its stages cost anything; its own reservation is for all of them. Events of attempts that
are not the current ones change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Final

from contracts.budget import BudgetLimits, Period, Refusal, Usage, excess, periods_of, refusal
from contracts.events.base import Envelope
from contracts.events.job import (
    PIPELINE,
    Cost,
    JobCancelled,
    JobFailed,
    JobInterrupted,
    JobRetrying,
    JobStarted,
    JobStarting,
    JobSucceeded,
)
from contracts.ids import pipeline_id_of
from contracts.worker_clock import event_time, move_billed_since

#: Types of the events that change an account.
SPENDING_EVENTS: Final = frozenset(
    {
        JobStarting.type,
        JobStarted.type,
        JobInterrupted.type,
        JobSucceeded.type,
        JobRetrying.type,
        JobFailed.type,
        JobCancelled.type,
    }
)
#: Days that are kept: a month and the one before it.
_DAYS_KEPT: Final = 62


@dataclass
class AccountedAttempt:
    """Current attempt of an unfinished job."""

    run_id: str
    reserved_usd: float
    usd_per_s: float = 0.0
    is_pipeline: bool = False
    #: Time of its dispatch.
    starting_at: datetime | None = None
    #: Start of the billed time; None before a worker has claimed the attempt.
    billed_since: datetime | None = None
    #: The attempt is over; its job is not, and the same end may be reported once more.
    over: bool = False
    #: Day and amount of its settled cost.
    settled: tuple[date, float] | None = None
    #: Of a pipeline: settled cost of the jobs of its stages since it started.
    stages_usd: float = 0.0

    def metered_usd(self, now: datetime) -> float:
        """Return the cost so far; 0 before the start and after the end."""
        if self.over or self.billed_since is None:
            return 0.0
        return max(0.0, (now - self.billed_since).total_seconds()) * self.usd_per_s

    @property
    def held_usd(self) -> float:
        """Amount that is reserved for it, spent or not."""
        return 0.0 if self.over else max(0.0, self.reserved_usd - self.stages_usd)


@dataclass
class Account:
    """Spending of one tenant."""

    by_day: dict[date, float] = field(default_factory=dict)
    #: Current attempts by job.
    attempts: dict[str, AccountedAttempt] = field(default_factory=dict)

    # ---- fold

    def fold(self, envelope: Envelope, stored_at: datetime | None = None) -> bool:
        """Apply an event of ``SPENDING_EVENTS`` and return whether it changed anything.

        ``stored_at``: when the server stored it; without it, the time that its publisher says.
        """
        job_id, data = envelope.subject, envelope.parsed()
        match data:
            case JobStarting():
                self.attempts[job_id] = AccountedAttempt(
                    run_id=data.run_id,
                    reserved_usd=data.reserved_usd,
                    usd_per_s=data.usd_per_s or 0.0,
                    is_pipeline=data.executor == PIPELINE,
                    starting_at=envelope.time,
                )
                return True
            case JobRetrying() | JobFailed() | JobCancelled():
                return self.attempts.pop(job_id, None) is not None
            case JobStarted() | JobInterrupted() | JobSucceeded():
                attempt = self.attempts.get(job_id)
                if attempt is None or attempt.run_id != data.run_id:
                    return False
                self._fold_run(job_id, attempt, data, envelope.time, stored_at or envelope.time)
                return True
        return False

    def _fold_run(
        self,
        job_id: str,
        attempt: AccountedAttempt,
        data: JobStarted | JobInterrupted | JobSucceeded,
        at: datetime,
        stored_at: datetime,
    ) -> None:
        if isinstance(data, JobStarted):
            attempt.billed_since = move_billed_since(
                data.billed_since or at, at, event_time(at, stored_at), attempt.starting_at
            )
            return
        self._settle(job_id, attempt, data.cost, stored_at.astimezone(UTC).date())
        attempt.over = True
        if isinstance(data, JobSucceeded):
            del self.attempts[job_id]

    def _settle(self, job_id: str, attempt: AccountedAttempt, cost: Cost | None, day: date) -> None:
        if cost is None or attempt.is_pipeline:
            return
        pipeline = self.attempts.get(pipeline_id_of(job_id) or "")
        if attempt.settled:
            before_day, before_usd = attempt.settled
            self._add(before_day, -before_usd)
            if pipeline:
                pipeline.stages_usd -= before_usd
        attempt.settled = (day, cost.usd)
        self._add(day, cost.usd)
        if pipeline:
            pipeline.stages_usd += cost.usd

    def _add(self, day: date, amount_usd: float) -> None:
        self.by_day[day] = round(self.by_day.get(day, 0.0) + amount_usd, 6)
        if not self.by_day[day]:
            del self.by_day[day]
        if len(self.by_day) > _DAYS_KEPT:
            del self.by_day[min(self.by_day)]

    # ---- use

    def usage(self, period: Period, now: datetime) -> Usage:
        """Return how a period's budget is used. Running attempts count in the period in which they will be settled."""
        # Days after its first one: NATS's clock may be ahead.
        settled_usd = sum(amount for day, amount in self.by_day.items() if day >= period.began)
        metered_usd = sum(attempt.metered_usd(now) for attempt in self.attempts.values())
        return Usage(round(settled_usd + metered_usd, 6), max(0.0, round(self._held_usd(now) - metered_usd, 6)))

    def admit(self, job_id: str, attempt: AccountedAttempt, limits: BudgetLimits, now: datetime) -> Refusal | None:
        """Reserve the amount of an attempt that is to be launched, unless a limit forbids it; return why, then."""
        if not limits.exist:
            self.attempts[job_id] = attempt
            return None
        before = {period: self.usage(period, now) for period in periods_of(now)}
        replaced = self.attempts.get(job_id)
        self.attempts[job_id] = attempt
        after_usd = {period: self.usage(period, now).committed_usd for period in before}
        refused = refusal(limits, now, before, attempt.reserved_usd, after_usd)
        if refused:
            self.release(job_id, attempt.run_id)
            if replaced:
                self.attempts[job_id] = replaced
        return refused

    def release(self, job_id: str, run_id: str) -> None:
        """Remove an attempt that was not launched."""
        attempt = self.attempts.get(job_id)
        if attempt and attempt.run_id == run_id:
            del self.attempts[job_id]

    def excess(self, job_id: str, limits: BudgetLimits, now: datetime) -> Refusal | None:
        """Return the limit because of which a running attempt must be stopped; None if it may go on.

        An attempt that costs no more than what was reserved for it may always go on.
        """
        if not self.is_beyond_reservation(job_id, now):
            return None
        return excess(limits, now, lambda period: self.usage(period, now))

    def is_beyond_reservation(self, job_id: str, now: datetime) -> bool:
        """Return whether a job, or the pipeline that it belongs to, has cost more than was reserved for it."""
        attempt = self.attempts.get(job_id)
        if attempt is None or not attempt.metered_usd(now):
            return False
        pipeline = self.attempts.get(pipeline_id_of(job_id) or "")
        if pipeline is None:
            return attempt.metered_usd(now) > attempt.held_usd
        metered_usd = sum(stage.metered_usd(now) for stage in self._stages_of(pipeline))
        return metered_usd > pipeline.held_usd

    def _held_usd(self, now: datetime) -> float:
        """Return the sum of what is reserved for, or was already spent by, the running attempts."""
        held_usd, by_pipeline = 0.0, dict[str, float]()
        for job_id, attempt in self.attempts.items():
            amount_usd = max(attempt.held_usd, attempt.metered_usd(now))
            pipeline_id = pipeline_id_of(job_id) or ""
            if pipeline_id in self.attempts:
                by_pipeline[pipeline_id] = by_pipeline.get(pipeline_id, 0.0) + amount_usd
            elif not attempt.is_pipeline:
                held_usd += amount_usd
        for job_id, attempt in self.attempts.items():
            if attempt.is_pipeline:
                held_usd += max(attempt.held_usd, by_pipeline.get(job_id, 0.0))
        return held_usd

    def _stages_of(self, pipeline: AccountedAttempt) -> list[AccountedAttempt]:
        return [
            attempt
            for job_id, attempt in self.attempts.items()
            if self.attempts.get(pipeline_id_of(job_id) or "") is pipeline
        ]
