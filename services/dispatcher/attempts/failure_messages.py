"""Error messages for attempts and jobs that the dispatcher ends. No I/O."""

from __future__ import annotations

from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import FailureClass
from contracts.job import Job, State
from contracts.workload import Compute
from services.dispatcher.attempts.liveness import Liveness
from services.dispatcher.attempts.retry import past_deadline
from services.dispatcher.executors.executor import CallStatus

#: Error codes of failures that only the executor knows of.
CODES: Final[dict[FailureClass, ErrorCode]] = {
    "not_started": ErrorCode.WORKER_NOT_STARTED,
    "out_of_memory": ErrorCode.OUT_OF_MEMORY,
    "broken": ErrorCode.WORKER_BROKEN,
    "timed_out": ErrorCode.TIMED_OUT,
    "no_gpu": ErrorCode.WORKER_NOT_STARTED,
}


def error_body(code: ErrorCode, message: str) -> ErrorBody:
    """Return an error with the hint of its code."""
    return SaccadeError(code, message).body()


def cost_cap_reached(job: Job) -> ErrorBody:
    """Return the error of a job that has reached its cost cap."""
    return error_body(ErrorCode.COST_CAP_REACHED, f"The job may cost at most {job.submitted.max_cost_usd} USD.")


def next_gpu_exceeds_cap(error: ErrorBody, device: str, job: Job) -> ErrorBody:
    """Return a worker's error with the hint that the next larger device exceeds the job's cost cap."""
    cap = job.submitted.max_cost_usd
    hint = f"The next larger device, {device}, costs more than max_cost_usd ({cap} USD) allows: raise max_cost_usd."
    return error.model_copy(update={"hint": hint})


def worker_gone(status: CallStatus, state: State) -> tuple[FailureClass, ErrorBody]:
    """Return failure class and error of an attempt whose worker is gone without publishing its end."""
    started = state is State.RUNNING
    failure: FailureClass = status.failure or ("lost" if started else "not_started")
    message = status.detail or ("The worker disappeared." if started else "The worker ended before it began.")
    return failure, error_body(CODES.get(failure, ErrorCode.WORKER_LOST), message)


def stop_reason(liveness: Liveness, job: Job, compute: Compute) -> tuple[FailureClass, ErrorBody]:
    """Return failure class and error of an attempt that the dispatcher stops."""
    match liveness:
        case Liveness.PAST_DEADLINE:
            late = past_deadline()
            return late.failure, late.error
        case Liveness.TIMED_OUT:
            return "timed_out", error_body(ErrorCode.TIMED_OUT, f"The worker ran for {compute.timeout_s:g} s.")
        case Liveness.COST_CAP:
            return "user", cost_cap_reached(job)
        case Liveness.NO_GPU:
            return "no_gpu", error_body(ErrorCode.WORKER_NOT_STARTED, f"No {job.device} was available in time.")
        case Liveness.NOT_STARTED:
            return "not_started", error_body(ErrorCode.WORKER_NOT_STARTED, "No worker started in time.")
        case _:
            return "lost", error_body(ErrorCode.WORKER_LOST, "The worker sends no heartbeats any more.")
