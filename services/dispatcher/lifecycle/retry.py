"""What follows an attempt that ended without a result: another one after a delay, or the end. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.job import FailureClass
from contracts.job import UNCOUNTED_FAILURES

#: Failures after which another attempt may end better. The others end the same way each time, or must not cost again.
RETRIED: Final[frozenset[FailureClass]] = frozenset(
    {"lost", "preempted", "not_started", "out_of_memory", "no_gpu", "throttled"}
)

#: Failures after which the next rung is tried: there was no such device, or it was too small.
CLIMBED: Final[frozenset[FailureClass]] = frozenset({"no_gpu", "out_of_memory"})

#: What the user is told when the attempts are used up; out of memory keeps the worker's own words.
_EXHAUSTED: Final[dict[FailureClass, ErrorCode]] = {
    "lost": ErrorCode.WORKER_LOST,
    "preempted": ErrorCode.WORKER_LOST,
    "not_started": ErrorCode.WORKER_NOT_STARTED,
}


@dataclass(frozen=True)
class Backoff:
    """Delays between attempts: ``first_s`` doubled each time, at most ``longest_s``, half of it random.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("equal jitter").
    """

    first_s: float = 1.0
    longest_s: float = 60.0
    #: What an executor is given that takes no more launches and does not say for how long; half of it random too.
    throttled_s: float = 20.0

    def delay_s(self, failures: int, jitter: float) -> float:
        """Give the delay after this many failures in a row; ``jitter`` is a random number in [0, 1)."""
        whole = min(self.longest_s, self.first_s * 2.0 ** min(failures - 1, 30))
        return whole * (0.5 + 0.5 * jitter)


@dataclass(frozen=True)
class Again:
    """Try once more, on this rung of the ladder."""

    delay_s: float
    rung: int = 0


@dataclass(frozen=True)
class Fail:
    """Give up, for good."""

    failure: FailureClass
    error: ErrorBody


@dataclass(frozen=True)
class Attempt:
    """An attempt that ended: how, and the how-manieth it was since somebody asked for the job."""

    failure: FailureClass
    error: ErrorBody
    number: int
    of: int
    deadline: datetime
    rung: int = 0
    #: The rung above, if there is one that the job may cost.
    rung_above: int | None = None
    #: For how long the executor takes no more launches, if it said so.
    retry_after_s: float | None = None
    #: Whether the ladder has rungs at all: a CPU that had too little memory may have more of it next time.
    has_rungs: bool = False


def next_step(attempt: Attempt, now: datetime, backoff: Backoff, jitter: float) -> Again | Fail:
    """Decide what follows."""
    if attempt.failure not in RETRIED:
        return Fail(attempt.failure, attempt.error)
    if attempt.number >= attempt.of and attempt.failure not in UNCOUNTED_FAILURES:
        return Fail(attempt.failure, _exhausted(attempt))
    climbs = attempt.failure in CLIMBED
    if attempt.failure == "out_of_memory" and attempt.has_rungs and attempt.rung_above is None:
        return Fail(attempt.failure, attempt.error)
    rung = attempt.rung_above if climbs and attempt.rung_above is not None else attempt.rung
    match attempt.failure:
        case "no_gpu":
            delay_s = 0.0
        case "throttled":
            delay_s = backoff.throttled_s * (0.5 + 0.5 * jitter)
            if attempt.retry_after_s is not None:  # never sooner than was asked for, and not all at once
                delay_s = attempt.retry_after_s * (1.0 + 0.5 * jitter)
        case _:
            delay_s = backoff.delay_s(attempt.number, jitter)
    if now + timedelta(seconds=delay_s) >= attempt.deadline:
        return past_deadline(attempt.error.message)
    return Again(delay_s, rung)


def past_deadline(last: str = "") -> Fail:
    """End a job that cannot be done in time; ``last`` says what went wrong in its last attempt."""
    message = f"The job was not done before its deadline. {last}".strip()
    return Fail("timed_out", SaccadeError(ErrorCode.DEADLINE_EXCEEDED, message).body())


def _exhausted(attempt: Attempt) -> ErrorBody:
    code = _EXHAUSTED.get(attempt.failure)
    if code is None:
        return attempt.error
    return SaccadeError(code, f"{attempt.error.message} That was attempt {attempt.number} of {attempt.of}.").body()
