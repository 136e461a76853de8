"""Ends of attempts and jobs that the dispatcher publishes."""

from __future__ import annotations

import logging
from datetime import datetime

from contracts.errors import ErrorBody
from contracts.events.job import FailureClass, JobFailed, JobInterrupted
from contracts.job import Job
from services.dispatcher.costs.attempt_cost import interrupted_cost
from services.dispatcher.jobs.job_repository import JobRepository

log = logging.getLogger(__name__)


async def interrupt(
    repository: JobRepository,
    job: Job,
    failure: FailureClass,
    error: ErrorBody,
    *,
    retry_after_s: float | None = None,
    until: datetime | None = None,
) -> Job:
    """Publish that the current attempt ended without a result, with its cost until now; return the job.

    ``until``: when its worker ended, if that was before. ``retry_after_s`` is the delay that the executor asked for
    when it rejected the launch.

    Raises:
        Conflict, NotLeading, SaccadeError: as ``JobRepository.publish``.
    """
    assert job.run_id
    data = JobInterrupted(
        attempt=job.attempt,
        run_id=job.run_id,
        failure=failure,
        error=error,
        cost=interrupted_cost(job, until or repository.clock()),
        retry_after_s=retry_after_s,
    )
    return await repository.publish(job, data)


async def fail(repository: JobRepository, job: Job, failure: FailureClass, error: ErrorBody) -> Job:
    """Publish that the job failed; return it.

    Raises:
        Conflict, NotLeading, SaccadeError: as ``JobRepository.publish``.
    """
    if failure == "broken":
        log.error("a worker of %s is broken: %s", job.submitted.workload, error.message, extra={"job_id": job.id})
    return await repository.publish(job, JobFailed(attempt=job.attempt, failure=failure, error=error))
