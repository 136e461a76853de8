"""Retention of a job's scratch files (checkpoints, intermediate files) after its end. Pure functions.

The default is ``SCRATCH_RETENTION_H`` of contracts/limits.py, 48 hours; each service's settings can change it.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from contracts.job import Job

#: Parameter that sets the retention in hours, for workloads that have it.
KEEP_HOURS: Final = "keep_hours"


def scratch_expires_at(job: Job, default_hours: float) -> datetime | None:
    """Return when a job's scratch files expire; None before the job has ended, or after the files were removed."""
    if not job.state.ended or job.finished_at is None or job.scratch_removed_at is not None:
        return None
    keep_hours = job.submitted.params.get(KEEP_HOURS)
    if not isinstance(keep_hours, int | float) or isinstance(keep_hours, bool):
        keep_hours = default_hours
    return job.keep_until or job.finished_at + timedelta(hours=float(keep_hours))
