"""What an attempt has cost so far and whether the job's cap is near: seconds times the dated price. No I/O."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from contracts.events.job import Cost
from contracts.job import Job
from contracts.prices import price_usd_per_s

#: Workers of this executor run on the operator's own machine.
LOCAL: Final = "local"
#: What a worker without a GPU runs on.
CPU: Final = "cpu"


def usd_per_s(executor: str | None, device: str) -> float:
    """Give the price of a second of a worker.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    return price_usd_per_s(LOCAL if executor == LOCAL else device)


#: A device is not worth starting for less work than this.
_LEAST_S: Final = 1.0


def seconds_of(job: Job, now: datetime) -> float:
    """Give the seconds that the current attempt has been paid for: since its worker claimed it, start-up included.

    0 when none has: what a container costs that never came to that is not known here.
    """
    since = job.billed_since or job.started_at
    return max(0.0, (now - since).total_seconds()) if job.started_at and since else 0.0


def startup_of(job: Job) -> float:
    """Give the seconds of them in which the worker had not yet begun."""
    if job.started_at is None or job.billed_since is None:
        return 0.0
    return max(0.0, (job.started_at - job.billed_since).total_seconds())


def left_usd(job: Job) -> float | None:
    """Give what the job may still cost; None without a cap."""
    cap = job.submitted.max_cost_usd
    return None if cap is None else max(0.0, cap - job.actual_usd)


def is_affordable(job: Job, usd_per_s: float) -> bool:
    """Tell whether a device is worth starting with what the job may still cost: a start and a second of work.

    How long a start takes is not known before the job's first one; then as long as its quickest so far.
    """
    left = left_usd(job)
    least_s = _LEAST_S + min((one.startup_s for one in job.costs.values()), default=0.0)
    return left is None or usd_per_s * least_s <= left


def cost_of(job: Job, seconds: float) -> Cost:
    """Price the current attempt."""
    device = job.device or LOCAL
    # What was asked for is paid, also where a larger device was given; both are told.
    price = job.usd_per_s if job.usd_per_s is not None else usd_per_s(job.executor, device)
    startup_s = min(seconds, startup_of(job))
    return Cost(
        device=device,
        seconds=round(seconds, 3),
        startup_s=round(startup_s, 3),
        usd=round(seconds * price, 6),
    )


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
