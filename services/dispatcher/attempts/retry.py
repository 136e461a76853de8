"""Retry policy: after an attempt without a result, another attempt after a delay, or the end of the job. No I/O."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import FailureClass
from contracts.job import UNCOUNTED_FAILURES

#: Failures after which another attempt may succeed. The others would fail again, or must not cost again.
RETRYABLE_FAILURES: Final[frozenset[FailureClass]] = frozenset(
    {"lost", "preempted", "not_started", "out_of_memory", "no_gpu", "throttled"}
)

#: Failures after which the next rung is tried: the device was not available, or too small.
CLIMBING_FAILURES: Final[frozenset[FailureClass]] = frozenset({"no_gpu", "out_of_memory"})

#: Error codes for the user when all attempts are used; out of memory keeps the worker's own error.
_EXHAUSTED: Final[dict[FailureClass, ErrorCode]] = {
    "lost": ErrorCode.WORKER_LOST,
    "preempted": ErrorCode.WORKER_LOST,
    "not_started": ErrorCode.WORKER_NOT_STARTED,
}


def jitter_of(run_id: str) -> float:
    """Return a number in [0, 1) that follows from the run that has ended.

    Run ids are random, so jobs spread as if it was drawn. Another dispatcher that decides the same thing again, or a
    replay of recorded events, finds the same delay.
    """
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:6]) / 2**48


@dataclass(frozen=True)
class AttemptPolicy:
    """Delays between attempts: exponential backoff up to a maximum, half of it jitter.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter"); field names as
    in Temporal's RetryPolicy.
    """

    initial_interval_s: float = 1.0
    maximum_interval_s: float = 60.0
    #: Delay after a rejected launch if the executor names none; half of it jitter too.
    throttled_interval_s: float = 20.0
    backoff_coefficient: float = 2.0

    def delay_s(self, failures: int, jitter: float) -> float:
        """Return the delay after this many failures in a row; ``jitter`` is a number in [0, 1)."""
        exponent = min(failures - 1, 30)
        interval_s = min(self.maximum_interval_s, self.initial_interval_s * self.backoff_coefficient**exponent)
        return interval_s * (0.5 + 0.5 * jitter)


@dataclass(frozen=True)
class RetryAttempt:
    """Decision: another attempt after a delay, on this rung of the ladder."""

    delay_s: float
    rung: int = 0


@dataclass(frozen=True)
class GiveUp:
    """Decision: fail the job."""

    failure: FailureClass
    error: ErrorBody


@dataclass(frozen=True)
class EndedAttempt:
    """An attempt that ended without a result."""

    failure: FailureClass
    error: ErrorBody
    #: Attempt number since the job was submitted or a user retried it, from 1.
    number: int
    maximum_attempts: int
    deadline: datetime
    rung: int = 0
    #: The next rung; None on the last, or when the job's cost cap does not allow it.
    next_rung: int | None = None
    #: Delay that the executor asked for when it rejected the launch.
    retry_after_s: float | None = None
    #: Whether the device is a GPU of a ladder. A CPU without enough memory may have more of it next time.
    has_ladder: bool = False


def decide_retry(attempt: EndedAttempt, now: datetime, policy: AttemptPolicy, jitter: float) -> RetryAttempt | GiveUp:
    """Return what follows an attempt; ``jitter`` is a number in [0, 1)."""
    if attempt.failure not in RETRYABLE_FAILURES:
        return GiveUp(attempt.failure, attempt.error)
    if attempt.number >= attempt.maximum_attempts and attempt.failure not in UNCOUNTED_FAILURES:
        return GiveUp(attempt.failure, _exhausted(attempt))
    if attempt.failure == "out_of_memory" and attempt.has_ladder and attempt.next_rung is None:
        return GiveUp(attempt.failure, attempt.error)
    climbs = attempt.failure in CLIMBING_FAILURES
    rung = attempt.next_rung if climbs and attempt.next_rung is not None else attempt.rung
    match attempt.failure:
        case "no_gpu":
            delay_s = 0.0
        case "throttled":
            delay_s = policy.throttled_interval_s * (0.5 + 0.5 * jitter)
            if attempt.retry_after_s is not None:  # never earlier than asked, and spread over time
                delay_s = attempt.retry_after_s * (1.0 + 0.5 * jitter)
        case _:
            delay_s = policy.delay_s(attempt.number, jitter)
    if now + timedelta(seconds=delay_s) >= attempt.deadline:
        return past_deadline(attempt.error.message)
    return RetryAttempt(delay_s, rung)


def past_deadline(last_error: str = "") -> GiveUp:
    """Return the failure of a job that cannot finish in time; ``last_error`` is the message of its last attempt."""
    message = f"The job was not done before its deadline. {last_error}".strip()
    return GiveUp("timed_out", SaccadeError(ErrorCode.DEADLINE_EXCEEDED, message).body())


def _exhausted(attempt: EndedAttempt) -> ErrorBody:
    code = _EXHAUSTED.get(attempt.failure)
    if code is None:
        return attempt.error
    message = f"{attempt.error.message} That was attempt {attempt.number} of {attempt.maximum_attempts}."
    return SaccadeError(code, message).body()
