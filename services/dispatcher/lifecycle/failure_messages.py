"""What a user is told when an attempt or a job is ended by the dispatcher. No I/O."""

from __future__ import annotations

from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import FailureClass
from contracts.job import Job, State
from contracts.workload import Compute
from services.dispatcher.executors.executor import CallStatus
from services.dispatcher.lifecycle.liveness import Verdict
from services.dispatcher.lifecycle.retry import past_deadline

#: What is said of a failure that only the executor knows of.
CODES: Final[dict[FailureClass, ErrorCode]] = {
    "not_started": ErrorCode.WORKER_NOT_STARTED,
    "out_of_memory": ErrorCode.OUT_OF_MEMORY,
    "broken": ErrorCode.WORKER_BROKEN,
    "timed_out": ErrorCode.TIMED_OUT,
    "no_gpu": ErrorCode.WORKER_NOT_STARTED,
}


def error_of(code: ErrorCode, message: str) -> ErrorBody:
    """Word an error."""
    return SaccadeError(code, message).body()


def over_cap(job: Job) -> ErrorBody:
    """Say that the job costs as much as it may."""
    return error_of(ErrorCode.COST_CAP_REACHED, f"The job may cost {job.submitted.max_cost_usd} USD.")


def too_dear(error: ErrorBody, device: str, job: Job) -> ErrorBody:
    """Add to a worker's words that a larger device would have been tried if the job could cost as much."""
    cap = job.submitted.max_cost_usd
    hint = f"A larger device is next, {device}, and with {cap} USD the job may not cost it: raise max_cost_usd."
    return error.model_copy(update={"hint": hint})


def loss_of(status: CallStatus, state: State) -> tuple[FailureClass, ErrorBody]:
    """Say how an attempt failed whose worker is gone without a word."""
    started = state is State.RUNNING
    failure: FailureClass = status.failure or ("lost" if started else "not_started")
    message = status.detail or ("The worker disappeared." if started else "The worker ended before it began.")
    return failure, error_of(CODES.get(failure, ErrorCode.WORKER_LOST), message)


def reason_of(verdict: Verdict, job: Job, compute: Compute) -> tuple[FailureClass, ErrorBody]:
    """Say why an attempt is ended that did not end by itself."""
    match verdict:
        case Verdict.PAST_DEADLINE:
            late = past_deadline()
            return late.failure, late.error
        case Verdict.TIMED_OUT:
            return "timed_out", error_of(ErrorCode.TIMED_OUT, f"The worker ran for {compute.timeout_s:g} s.")
        case Verdict.COST_CAP:
            return "user", over_cap(job)
        case Verdict.NO_GPU:
            return "no_gpu", error_of(ErrorCode.WORKER_NOT_STARTED, f"No {job.device} was to be had in time.")
        case Verdict.NOT_STARTED:
            return "not_started", error_of(ErrorCode.WORKER_NOT_STARTED, "No worker began in time.")
        case _:
            return "lost", error_of(ErrorCode.WORKER_LOST, "The worker has gone silent.")
