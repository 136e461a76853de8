"""Result of one step of a job."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.job import Job


@dataclass(frozen=True)
class RequeueAfter:
    """Delay after which a job is reconciled again, unless one of its events arrives before."""

    after_s: float


#: The job after one more event, a time to reconcile it again, or None when there is nothing more to do.
StepResult = Job | RequeueAfter | None
