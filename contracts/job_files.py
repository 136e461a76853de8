"""Decisions about the files of an ended job: how long scratch files and results are kept. Pure functions."""

from __future__ import annotations

from datetime import datetime

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobResultsExpired, JobResultsRetentionChanged, JobRetentionChanged
from contracts.job import Job, require_results


def change_retention(job: Job, keep_until: datetime, by: str) -> JobRetentionChanged:
    """Return the change of the time until which a job's scratch files are kept.

    Raises:
        SaccadeError: ARTIFACTS_NOT_READY, before the job has ended; SCRATCH_REMOVED.
    """
    if not job.state.ended:
        raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, f"The job is {job.state}: its retention starts when it ends.")
    if job.scratch_removed_at is not None:
        raise SaccadeError(
            ErrorCode.SCRATCH_REMOVED, f"The scratch files were removed at {job.scratch_removed_at:%Y-%m-%dT%H:%M:%SZ}."
        )
    return JobRetentionChanged(keep_until=keep_until, by=by)


def change_results_retention(job: Job, keep_until: datetime, by: str) -> JobResultsRetentionChanged:
    """Return the change of the time until which a job's results are kept.

    Raises:
        SaccadeError: ARTIFACTS_NOT_READY, before the job has ended; RESULTS_REMOVED.
    """
    _check_results(job)
    return JobResultsRetentionChanged(keep_until=keep_until, by=by)


def expire_results(job: Job, by: str) -> JobResultsExpired | None:
    """Return the end of a job's results, which a user asks for; None if they have ended.

    Raises:
        SaccadeError: ARTIFACTS_NOT_READY, before the job has ended.
    """
    if job.results_expired_at is not None:
        return None
    _check_results(job)
    return JobResultsExpired(reason="asked", by=by)


def _check_results(job: Job) -> None:
    if not job.state.ended:
        message = f"The job is {job.state}: its results are kept from its end on."
        raise SaccadeError(ErrorCode.ARTIFACTS_NOT_READY, message)
    require_results(job)
