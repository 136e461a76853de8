"""Retry decisions, as a table, and the delays between attempts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import FailureClass
from services.dispatcher.attempts.retry import (
    RETRYABLE_FAILURES,
    AttemptPolicy,
    EndedAttempt,
    GiveUp,
    RetryAttempt,
    decide_retry,
)

NOW = datetime(2026, 7, 1, tzinfo=UTC)
WORKER_ERROR = SaccadeError(ErrorCode.INTERNAL, "The worker's message.").body()


def attempt(failure: FailureClass, number: int = 1, maximum_attempts: int = 4, left_s: float = 3600) -> EndedAttempt:
    return EndedAttempt(failure, WORKER_ERROR, number, maximum_attempts, NOW + timedelta(seconds=left_s))


@pytest.mark.parametrize(
    ("failure", "retried"),
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
def test_each_failure_class_has_a_decision(failure: FailureClass, retried: bool) -> None:
    decision = decide_retry(attempt(failure), NOW, AttemptPolicy(), 0.5)
    assert isinstance(decision, RetryAttempt) is retried
    if isinstance(decision, GiveUp):
        assert (decision.failure, decision.error) == (failure, WORKER_ERROR), "the worker's own error is kept"


def test_the_table_above_is_complete() -> None:
    assert set(get_args(FailureClass)) >= RETRYABLE_FAILURES
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
    assert isinstance(decide_retry(attempt(failure, 3, 4), NOW, AttemptPolicy(), 0.5), RetryAttempt)
    decision = decide_retry(attempt(failure, 4, 4), NOW, AttemptPolicy(), 0.5)
    assert isinstance(decision, GiveUp)
    assert (decision.failure, decision.error.code) == (failure, code)
    assert "The worker's message." in decision.error.message


def test_no_attempt_begins_after_the_deadline() -> None:
    policy = AttemptPolicy(initial_interval_s=10)
    assert isinstance(decide_retry(attempt("lost", left_s=10.1), NOW, policy, 0.999), RetryAttempt)
    decision = decide_retry(attempt("lost", left_s=7), NOW, policy, 0.999)
    assert isinstance(decision, GiveUp)
    assert (decision.failure, decision.error.code) == ("timed_out", ErrorCode.DEADLINE_EXCEEDED)


@pytest.mark.parametrize(
    ("failures", "shortest_s", "longest_s"),
    [(1, 0.5, 1), (2, 1, 2), (3, 2, 4), (7, 30, 60), (8, 30, 60), (5000, 30, 60)],
)
def test_delays_double_up_to_the_maximum(failures: int, shortest_s: float, longest_s: float) -> None:
    policy = AttemptPolicy(initial_interval_s=1, maximum_interval_s=60)
    assert policy.delay_s(failures, 0.0) == shortest_s
    assert policy.delay_s(failures, 1.0) == longest_s


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0, 100), st.floats(0, 100))
def test_delays_are_never_outside_their_bounds(
    failures: int, jitter: float, initial_s: float, maximum_s: float
) -> None:
    delay_s = AttemptPolicy(initial_s, maximum_s).delay_s(failures, jitter)
    assert 0 <= delay_s <= maximum_s


def on_rung(failure: FailureClass, rung: int, next_rung: int | None, **fields: float) -> EndedAttempt:
    ended = EndedAttempt(failure, WORKER_ERROR, 1, 4, NOW + timedelta(hours=1), rung, next_rung, has_ladder=True)
    return replace(ended, **fields)


@pytest.mark.parametrize(
    ("failure", "next_rung", "rung"),
    [
        ("out_of_memory", 2, 2),
        ("no_gpu", 2, 2),
        ("lost", 2, 1),
        ("preempted", 2, 1),
        ("not_started", 2, 1),
        ("throttled", 2, 1),
        ("no_gpu", None, 1),
    ],
)
def test_only_a_missing_or_too_small_gpu_climbs_the_ladder(
    failure: FailureClass, next_rung: int | None, rung: int
) -> None:
    decision = decide_retry(on_rung(failure, 1, next_rung), NOW, AttemptPolicy(), 0.5)
    assert isinstance(decision, RetryAttempt)
    assert decision.rung == rung
    assert (decision.delay_s == 0) is (failure == "no_gpu")


def test_out_of_memory_on_the_last_rung_fails_with_the_workers_own_error() -> None:
    decision = decide_retry(on_rung("out_of_memory", 2, None), NOW, AttemptPolicy(), 0.5)
    assert decision == GiveUp("out_of_memory", WORKER_ERROR)


@given(st.floats(0.1, 600), st.floats(0, 1, exclude_max=True))
def test_a_rejected_launch_is_not_retried_earlier_than_the_executor_asked(asked_s: float, jitter: float) -> None:
    decision = decide_retry(on_rung("throttled", 0, None, retry_after_s=asked_s), NOW, AttemptPolicy(), jitter)
    assert isinstance(decision, RetryAttempt)
    assert asked_s <= decision.delay_s <= 1.5 * asked_s
