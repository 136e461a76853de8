"""Job aggregate: its state is the fold of its events, and every change of its state is decided here.

Pure functions. A publish is conditional on the sequence at which the fold ended: of two writers one loses, reads the
job again and decides again. The fold of the newest event of each type, in stream order, gives the same state as the
fold of all events, except for the costs of earlier attempts (a test proves it), which makes loading a job cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from contracts.copies import copied
from contracts.cost_settlement import record_settled
from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.base import EVENT_CLASSES, Envelope, EventData, decode_at
from contracts.events.job import (
    Cost,
    FailureClass,
    JobArtifactReady,
    JobCancelled,
    JobCancelRequested,
    JobFailed,
    JobInterrupted,
    JobLaunched,
    JobQueued,
    JobResultsExpired,
    JobResultsRemoved,
    JobResultsRetentionChanged,
    JobRetentionChanged,
    JobRetrying,
    JobScratchRemoved,
    JobStageCompleted,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
    JobWaitingForGpu,
)
from contracts.trace_context import parse_traceparent
from contracts.worker_clock import event_time, move_billed_since


class State(StrEnum):
    """State of a job."""

    SUBMITTED = "submitted"
    QUEUED = "queued"
    STARTING = "starting"
    #: Launched, and its device is not available yet.
    WAITING_FOR_GPU = "waiting_for_gpu"
    RUNNING = "running"
    #: The attempt is over; the dispatcher decides whether another one follows.
    INTERRUPTED = "interrupted"
    #: Waiting for the next attempt.
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def launching(self) -> bool:
        """Whether a worker may claim the attempt."""
        return self in (State.STARTING, State.WAITING_FOR_GPU)

    @property
    def ended(self) -> bool:
        """Whether the job has ended; only a user's retry changes that."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


@dataclass(frozen=True)
class Job:
    """One job, folded from its events."""

    id: str
    tenant: str
    submitted: JobSubmitted
    created_at: datetime
    state: State = State.SUBMITTED
    #: Sequence of ``job.submitted``, and of the newest folded event.
    first_sequence: int = 0
    sequence: int = 0
    updated_at: datetime | None = None
    attempt: int = 0
    #: First attempt since the job was submitted or a user retried it: the limit of attempts counts from here.
    first_attempt: int = 1
    run_id: str | None = None
    call_id: str | None = None
    executor: str | None = None
    device: str | None = None
    #: Rung of the GPU ladder that was tried last; kept between attempts, so that the next attempt can use a higher one.
    rung: int = 0
    usd_per_s: float | None = None
    worker: str | None = None
    stage: str | None = None
    starting_at: datetime | None = None
    started_at: datetime | None = None
    #: Time of the newest ``job.waiting_for_gpu`` of the attempt.
    waiting_reported_at: datetime | None = None
    #: Start of the billed time of the current attempt, known once its worker has started.
    billed_since: datetime | None = None
    finished_at: datetime | None = None
    cancel_requested: bool = False
    not_before: datetime | None = None
    deadline: datetime | None = None
    failure: FailureClass | None = None
    error: ErrorBody | None = None
    #: Delay that the executor asked for when it rejected the launch of the interrupted attempt.
    retry_after_s: float | None = None
    result: dict[str, Any] | None = None
    manifest_key: str | None = None
    #: Time until which scratch files are kept, if a user has set it; and the time at which they were removed.
    keep_until: datetime | None = None
    scratch_removed_at: datetime | None = None
    #: The same of results, if a user has set it; when they were not served any more, and when they were removed.
    results_keep_until: datetime | None = None
    results_expired_at: datetime | None = None
    results_removed_at: datetime | None = None
    #: Settled cost of each attempt, by run (contracts/cost_settlement.py).
    costs: dict[str, Cost] = field(default_factory=dict)
    #: Trace context of ``job.submitted``; None if it has none that is valid.
    traceparent: str | None = None

    @property
    def actual_usd(self) -> float:
        """Total cost of all attempts."""
        return round(sum(cost.usd for cost in self.costs.values()), 6)

    def is_current_run(self, attempt: int, run_id: str) -> bool:
        """Return whether a run is the current one: events of other runs are ignored."""
        return self.attempt == attempt and self.run_id == run_id


def fold(job: Job | None, envelope: Envelope, sequence: int, stored_at: datetime | None = None) -> Job | None:
    """Apply one event and return the job. Events of an outdated attempt change only the sequence.

    ``job`` is None before ``job.submitted``; the result is None when that event is missing. ``stored_at`` is the
    server's time of the event: it is what counts for an event of a run whose worker has another clock.
    """
    # An event type of a newer version does not change any state known to this version.
    data = envelope.parsed() if envelope.type in EVENT_CLASSES else None
    at = envelope.time
    if isinstance(data, JobSubmitted):
        if job is not None:
            return job
        return Job(
            id=envelope.subject,
            tenant=envelope.tenant,
            submitted=data,
            created_at=at,
            traceparent=envelope.traceparent if parse_traceparent(envelope.traceparent) else None,
            first_sequence=sequence,
            sequence=sequence,
            updated_at=at,
            deadline=data.deadline,
        )
    if job is None or sequence <= job.sequence:
        return job
    job = copied(job, sequence=sequence, updated_at=at)
    if (kept := _fold_retention(job, data, at)) is not None:
        return kept
    if job.state.ended and not isinstance(data, JobRetrying):
        return job
    match data:
        case JobQueued():
            return copied(job, state=State.QUEUED)
        case JobStarting() | JobRetrying():
            return _fold_attempt(job, data, at)
        case JobCancelRequested():
            return copied(job, cancel_requested=True)
        case JobCancelled():
            return _ended(job, at, state=State.CANCELLED)
        case JobFailed():
            return _ended(job, at, state=State.FAILED, failure=data.failure, error=data.error)
        case (
            JobWaitingForGpu()
            | JobLaunched()
            | JobStarted()
            | JobStageCompleted()
            | JobArtifactReady()
            | JobInterrupted()
            | JobSucceeded()
        ):
            return _fold_run(job, data, at, stored_at) if job.is_current_run(data.attempt, data.run_id) else job
    return job


def fold_stored(
    job: Job | None, subject: str, body: bytes, sequence: int, stored_at: datetime | None = None
) -> Job | None:
    """Apply one stored event. An undecodable event, or one of another subject, changes only the sequence."""
    try:
        return fold(job, decode_at(subject, body), sequence, stored_at)
    except ValueError:
        return copied(job, sequence=sequence) if job is not None and sequence > job.sequence else job


def _fold_retention(job: Job, data: EventData | None, at: datetime) -> Job | None:
    """Apply an event about the files of an ended job; return None for any other."""
    match data:
        case JobRetentionChanged():
            return copied(job, keep_until=data.keep_until)
        case JobScratchRemoved():
            return copied(job, scratch_removed_at=at)
        case JobResultsRetentionChanged():
            return copied(job, results_keep_until=data.keep_until)
        case JobResultsExpired():
            return copied(job, results_expired_at=at)
        case JobResultsRemoved():
            return copied(job, results_removed_at=at)
        case _:
            return None


def _fold_attempt(job: Job, data: JobStarting | JobRetrying, at: datetime) -> Job:
    """Apply the start of an attempt, or a retry; both reset the fields of the previous attempt."""
    job = copied(
        job,
        run_id=None,
        call_id=None,
        executor=None,
        device=None,
        usd_per_s=None,
        worker=None,
        stage=None,
        starting_at=None,
        started_at=None,
        waiting_reported_at=None,
        billed_since=None,
        not_before=None,
    )
    if isinstance(data, JobStarting):
        return copied(
            job,
            state=State.STARTING,
            attempt=data.attempt,
            run_id=data.run_id,
            executor=data.executor,
            device=data.device,
            rung=data.rung,
            usd_per_s=data.usd_per_s,
            starting_at=at,
        )
    return copied(
        job,
        state=State.RETRYING,
        attempt=data.attempt - 1,
        first_attempt=data.first_attempt,
        rung=data.rung,
        not_before=data.not_before,
        deadline=data.deadline,
        # Only a user retries a cancelled job; the dispatcher never does.
        cancel_requested=False,
        finished_at=None,
        error=None,
        failure=None,
        keep_until=None,
        scratch_removed_at=None,
    )


def _fold_run(
    job: Job,
    data: JobWaitingForGpu
    | JobLaunched
    | JobStarted
    | JobStageCompleted
    | JobArtifactReady
    | JobInterrupted
    | JobSucceeded,
    worker_at: datetime,
    stored_at: datetime | None,
) -> Job:
    """Apply an event of the current run; ``worker_at`` is the time by its worker's clock."""
    at = event_time(worker_at, stored_at)
    match data:
        case JobLaunched():
            return copied(job, call_id=data.call_id)
        case JobWaitingForGpu():
            return copied(job, state=State.WAITING_FOR_GPU, waiting_reported_at=at) if job.state.launching else job
        case JobStarted():
            return copied(
                job,
                state=State.RUNNING,
                call_id=job.call_id or data.call_id,
                device=data.device,
                worker=data.worker,
                started_at=at,
                billed_since=data.billed_since and move_billed_since(data.billed_since, worker_at, at, job.starting_at),
            )
        case JobStageCompleted():
            return copied(job, stage=data.stage)
        case JobInterrupted():
            costs = record_settled(job.costs, data.run_id, data.cost)
            return copied(
                job,
                state=State.INTERRUPTED,
                failure=data.failure,
                error=data.error,
                retry_after_s=data.retry_after_s,
                costs=costs,
            )
        case JobSucceeded():
            return _ended(
                job,
                at,
                state=State.SUCCEEDED,
                result=data.result,
                manifest_key=data.manifest_key,
                failure=None,
                error=None,
                costs=record_settled(job.costs, data.run_id, data.cost),
            )
        case JobArtifactReady():
            return job


def _ended(job: Job, at: datetime, **changes: Any) -> Job:
    """Return the job at its end.

    A limit of its results that has passed while it was tried again was set for what it had before, and would remove the
    new ones at once.
    """
    until = job.results_keep_until
    return copied(job, finished_at=at, results_keep_until=until if until and until > at else None, **changes)


def request_cancel(job: Job, by: str) -> JobCancelRequested | None:
    """Return the request to cancel a job; None if it was requested before.

    Raises:
        SaccadeError: JOB_ALREADY_ENDED.
    """
    if job.state.ended:
        raise SaccadeError(ErrorCode.JOB_ALREADY_ENDED, f"The job is already {job.state}.")
    return None if job.cancel_requested else JobCancelRequested(by=by)


def require_results(job: Job) -> None:
    """Check that a job's results are served.

    Raises:
        SaccadeError: RESULTS_REMOVED.
    """
    if job.results_expired_at is not None:
        message = f"The results of {job.id} were deleted at {job.results_expired_at:%Y-%m-%dT%H:%M:%SZ}."
        raise SaccadeError(ErrorCode.RESULTS_REMOVED, message)


#: Failures that do not count towards the maximum number of attempts.
UNCOUNTED_FAILURES: Final[frozenset[FailureClass]] = frozenset({"no_gpu", "throttled"})


def retry(
    job: Job, *, after: FailureClass | None, delay_s: float, now: datetime, deadline_s: float, rung: int = 0
) -> JobRetrying:
    """Return a retry: by the dispatcher after a failure, or by a user (``after`` is None).

    Raises:
        SaccadeError: JOB_NOT_RETRYABLE, when a user retries a job that has not failed or been cancelled;
            RESULTS_REMOVED, when its files are being removed.
    """
    if after is None and job.state is State.SUCCEEDED:
        message = "The job has succeeded: there is nothing to retry."
        raise SaccadeError(ErrorCode.JOB_NOT_RETRYABLE, message, hint="To run it once more, submit a new job.")
    if after is None and not job.state.ended:
        message = f"The job has not ended: it is {job.state}."
        raise SaccadeError(ErrorCode.JOB_NOT_RETRYABLE, message, hint="Wait until it ends, or cancel it first.")
    if after is None:
        require_results(job)
    deadline = now + timedelta(seconds=deadline_s) if after is None else (job.deadline or job.submitted.deadline)
    return JobRetrying(
        attempt=job.attempt + 1,
        first_attempt=job.attempt + 1 if after is None else job.first_attempt + (after in UNCOUNTED_FAILURES),
        after=after or "asked",
        delay_s=delay_s,
        rung=rung,
        not_before=now + timedelta(seconds=delay_s),
        deadline=deadline,
    )
