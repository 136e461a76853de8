"""Cost of an attempt and the job's cost cap: billed seconds times the price at dispatch. No I/O.

contracts/cost_settlement.py has the formula, and says who settles which attempt.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from contracts.cost_settlement import settled_cost
from contracts.events.job import Cost
from contracts.job import Job
from contracts.prices import price_usd_per_s

#: Name of the executor that runs workers on the operator's own machine, and device without a price there.
LOCAL: Final = "local"
#: Device of a worker without a GPU.
CPU: Final = "cpu"
#: Seconds of work that a job must be able to pay for before a device is started for it.
_MINIMUM_WORK_S: Final = 1.0


def usd_per_s(executor: str | None, device: str) -> float:
    """Return the price of one second on a device; the operator's own machine is free.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    return price_usd_per_s(LOCAL if executor == LOCAL else device)


# ---- cost of an attempt


def billed_seconds(job: Job, now: datetime) -> float:
    """Return the seconds of the current attempt that are billed so far, including start-up.

    0 before a worker has claimed the attempt: the cost of a container that never came to that is not known here.
    """
    since = job.billed_since or job.started_at
    return max(0.0, (now - since).total_seconds()) if job.started_at and since else 0.0


def startup_seconds(job: Job) -> float:
    """Return the billed seconds before the worker began."""
    if job.started_at is None or job.billed_since is None:
        return 0.0
    return max(0.0, (job.started_at - job.billed_since).total_seconds())


def attempt_cost(job: Job, seconds: float) -> Cost:
    """Return the cost of the current attempt after this many billed seconds."""
    device = job.device or LOCAL
    # The requested device is paid for, even if a larger one was assigned; the events name both.
    price = job.usd_per_s if job.usd_per_s is not None else usd_per_s(job.executor, device)
    return settled_cost(device, price, seconds, startup_s=min(seconds, startup_seconds(job)))


def interrupted_cost(job: Job, now: datetime) -> Cost | None:
    """Return the cost of an attempt that ends now; None before a worker has claimed it."""
    return attempt_cost(job, billed_seconds(job, now)) if job.started_at else None


def recovered_cost(job: Job, duration_s: float) -> Cost:
    """Return the cost of an attempt whose manifest gives its duration since the claim; start-up is added."""
    return attempt_cost(job, startup_seconds(job) + duration_s)


# ---- cost cap


def remaining_usd(job: Job) -> float | None:
    """Return the amount that the job may still cost; None without a cap."""
    cap = job.submitted.max_cost_usd
    return None if cap is None else max(0.0, cap - job.actual_usd)


def reservation_usd(job: Job, usd_per_s: float) -> float:
    """Return what the next attempt may cost, which is reserved from the tenant's budgets: its cap, else the estimate.

    At least a second of work; nothing where workers are free.
    """
    if usd_per_s <= 0:
        return 0.0
    left = remaining_usd(job)
    return round(max(_MINIMUM_WORK_S * usd_per_s, job.submitted.estimated_usd if left is None else left), 6)


def is_affordable(job: Job, usd_per_s: float) -> bool:
    """Return whether the remaining amount pays for a start and a second of work at this price.

    The start-up time is that of the job's quickest start so far; 0 before the first one.
    """
    left = remaining_usd(job)
    minimum_s = _MINIMUM_WORK_S + min((cost.startup_s for cost in job.costs.values()), default=0.0)
    return left is None or usd_per_s * minimum_s <= left


def will_exceed_cap(job: Job, now: datetime, reaction_s: float) -> bool:
    """Return whether the running attempt would exceed the cap if stopping it took ``reaction_s`` from now."""
    if job.submitted.max_cost_usd is None:
        return False
    running = attempt_cost(job, billed_seconds(job, now) + reaction_s).usd if job.run_id not in job.costs else 0.0
    return running > 0 and job.actual_usd + running > job.submitted.max_cost_usd


def is_cap_spent(job: Job) -> bool:
    """Return whether earlier attempts have used up the cap."""
    cap = job.submitted.max_cost_usd
    return cap is not None and job.actual_usd > 0 and job.actual_usd >= cap
