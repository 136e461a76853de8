"""What an attempt has cost so far and whether the job's cap is near: seconds times the dated price. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from contracts.events.job import Cost
from contracts.job import Job
from contracts.prices import price_usd_per_s

#: Workers of this executor run on the operator's own machine.
LOCAL: Final = "local"


def usd_per_s(executor: str | None, device: str) -> float:
    """Give the price of a second of a worker.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    return price_usd_per_s(LOCAL if executor == LOCAL else device)


def seconds_of(job: Job, now: datetime) -> float:
    """Give the seconds since the current attempt's worker claimed it; 0 when none has."""
    return max(0.0, (now - job.started_at).total_seconds()) if job.started_at else 0.0


def cost_of(job: Job, seconds: float) -> Cost:
    """Price the current attempt."""
    device = job.device or LOCAL
    usd = 0.0 if seconds == 0 else seconds * usd_per_s(job.executor, device)
    return Cost(device=device, seconds=round(seconds, 3), usd=round(usd, 6))


def cap_is_near(job: Job, now: datetime, reaction_s: float) -> bool:
    """Tell whether the running attempt, given ``reaction_s`` more to be stopped, would cost more than the job may."""
    if job.submitted.max_cost_usd is None:
        return False
    running = cost_of(job, seconds_of(job, now) + reaction_s).usd if job.run_id not in job.costs else 0.0
    return running > 0 and job.actual_usd + running > job.submitted.max_cost_usd


def cap_is_spent(job: Job) -> bool:
    """Tell whether earlier attempts have used up what the job may cost."""
    cap = job.submitted.max_cost_usd
    return cap is not None and job.actual_usd > 0 and job.actual_usd >= cap
