"""What follows a failed attempt, as a table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import FailureClass
from services.dispatcher.lifecycle.retry import RETRIED, Again, Attempt, Backoff, Fail, next_step

NOW = datetime(2026, 7, 1, tzinfo=UTC)
SAID = SaccadeError(ErrorCode.INTERNAL, "As the worker said it.").body()


def attempt(failure: FailureClass, number: int = 1, of: int = 4, left_s: float = 3600) -> Attempt:
    return Attempt(failure, SAID, number, of, NOW + timedelta(seconds=left_s))


@pytest.mark.parametrize(
    ("failure", "again"),
    [
        ("user", False),
        ("broken", False),
        ("timed_out", False),
        ("lost", True),
        ("preempted", True),
        ("not_started", True),
        ("out_of_memory", True),
        ("no_gpu", True),
        ("throttled", True),
    ],
)
def test_each_failure_class_has_its_answer(failure: FailureClass, again: bool) -> None:
    step = next_step(attempt(failure), NOW, Backoff(), 0.5)
    assert isinstance(step, Again) is again
    if isinstance(step, Fail):
        assert (step.failure, step.error) == (failure, SAID), "the worker's own words stay"


def test_the_table_above_is_complete() -> None:
    assert set(get_args(FailureClass)) >= RETRIED
    assert len(get_args(FailureClass)) == 9


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("lost", ErrorCode.WORKER_LOST),
        ("preempted", ErrorCode.WORKER_LOST),
        ("not_started", ErrorCode.WORKER_NOT_STARTED),
        ("out_of_memory", ErrorCode.INTERNAL),
    ],
)
def test_the_last_attempt_ends_the_job(failure: FailureClass, code: ErrorCode) -> None:
    assert isinstance(next_step(attempt(failure, 3, 4), NOW, Backoff(), 0.5), Again)
    step = next_step(attempt(failure, 4, 4), NOW, Backoff(), 0.5)
    assert isinstance(step, Fail)
    assert (step.failure, step.error.code) == (failure, code)
    assert "As the worker said it." in step.error.message


def test_no_attempt_begins_after_the_deadline() -> None:
    backoff = Backoff(first_s=10)
    assert isinstance(next_step(attempt("lost", left_s=10.1), NOW, backoff, 0.999), Again)
    step = next_step(attempt("lost", left_s=7), NOW, backoff, 0.999)
    assert isinstance(step, Fail)
    assert (step.failure, step.error.code) == ("timed_out", ErrorCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(
    ("failures", "shortest_s", "longest_s"),
    [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (7, 30, 60), (8, 30, 60), (5000, 30, 60)],
)
def test_delays_double_up_to_the_longest(failures: int, shortest_s: float, longest_s: float) -> None:
    backoff = Backoff(first_s=1, longest_s=60)
    assert backoff.delay_s(failures, 0.0) == shortest_s
    assert backoff.delay_s(failures, 1.0) == longest_s


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 100), st.floats(0, 100))
def test_delays_are_never_outside_their_bounds(failures: int, jitter: float, first_s: float, longest_s: float) -> None:
    delay_s = Backoff(first_s, longest_s).delay_s(failures, jitter)
    assert 0 <= delay_s <= longest_s
