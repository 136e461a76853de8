"""How long what is only kept to go on from (checkpoints, hand-over files) stays after a job's end. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from contracts.job import Job

#: The parameter by which a workload lets its user decide, in hours.
KEEP_HOURS: Final = "keep_hours"


def scratch_expires_at(job: Job, default_hours: float) -> datetime | None:
    """Tell until when a job's scratch is kept; None while it has not ended or nothing is left to be removed."""
    if not job.state.ended or job.finished_at is None or job.scratch_removed_at is not None:
        return None
    asked = job.submitted.params.get(KEEP_HOURS)
    hours = float(asked) if isinstance(asked, int | float) and not isinstance(asked, bool) else default_hours
    return job.keep_until or job.finished_at + timedelta(hours=hours)
