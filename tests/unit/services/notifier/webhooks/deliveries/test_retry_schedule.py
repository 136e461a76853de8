"""Retry schedule, circuit breaker, and disabling of endpoints."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.notifier.webhooks.deliveries.delivery import FailureRun
from services.notifier.webhooks.deliveries.retry_schedule import disable_reason, is_responsive, next_delay_s
from services.notifier.webhooks.sending.circuit_breaker import FAILURES, MAX_PROBE_S, PROBE_S, CircuitBreaker

NOW = datetime(2026, 7, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FAILING = FailureRun("whk_1", "acme", NOW - 6 * DAY, NOW, 500, gone=False)


def wait_s(made: int, status: int | None = 500, **more: object) -> float | None:
    given = {"error": "http_status", "retry_after_s": None, "chance": 0.5} | more
    return next_delay_s(made, status=status, **given)  # type: ignore[arg-type]


def test_the_schedule_is_that_of_svix() -> None:
    hour = 3600
    assert [wait_s(made) for made in range(1, 8)] == [5, 300, hour / 2, 2 * hour, 5 * hour, 10 * hour, 10 * hour]
    assert wait_s(8) is None


@pytest.mark.parametrize("made", range(1, 8))
def test_delays_are_spread_by_a_fifth(made: int) -> None:
    middle = wait_s(made)
    assert middle
    assert wait_s(made, chance=0.0) == pytest.approx(0.8 * middle)
    assert wait_s(made, chance=1.0) == pytest.approx(1.2 * middle)


def test_retry_after_only_makes_a_delay_longer_up_to_a_maximum() -> None:
    assert wait_s(1, 503, retry_after_s=900) == 900
    assert wait_s(2, 400, retry_after_s=10) == 300
    assert wait_s(1, 429, retry_after_s=10**9) == 36_000
    assert wait_s(8, 429, retry_after_s=10) is None


@pytest.mark.parametrize(
    ("status", "error"), [(429, "http_status"), (503, "http_status"), (None, "timeout"), (None, "too_slow")]
)
def test_an_overloaded_receiver_is_retried_after_a_minute(status: int | None, error: str) -> None:
    for chance in (0.0, 0.5, 1.0):
        assert (wait_s(1, status, error=error, chance=chance) or 0) >= 60


def test_a_receiver_that_answered_410_is_not_retried() -> None:
    assert wait_s(1, 410) is None


def test_most_answers_are_responsive() -> None:
    assert [is_responsive(status) for status in (200, 301, 400, 410, 408, 429, 500, None)] == [True] * 4 + [False] * 4


def test_a_mail_server_that_defers_is_asked_again_after_a_minute_and_one_that_refuses_is_not() -> None:
    assert (wait_s(1, 450, error="smtp_deferred", chance=0.0) or 0) >= 60
    assert wait_s(1, 550, error="smtp_refused") is None
    assert wait_s(1, 535, error="smtp_auth_failed") == 5


def test_codes_of_mail_servers_have_their_own_meaning() -> None:
    """A refused message says nothing about the next one; a deferred one or a refused password does."""
    assert is_responsive(550, "smtp_refused")
    assert not is_responsive(450, "smtp_deferred")
    assert not is_responsive(535, "smtp_auth_failed")
    assert wait_s(1, 410, error="smtp_deferred") is not None
    assert wait_s(1, 503, error="smtp_auth_failed") == 5


def test_five_days_of_failures_disable_an_endpoint() -> None:
    long_ago = NOW - 100 * DAY
    assert disable_reason(FAILING, long_ago) == "failing"
    assert disable_reason(replace(FAILING, failing_since=NOW - 4.9 * DAY), long_ago) is None


def test_failures_before_a_change_of_the_endpoint_do_not_count() -> None:
    assert disable_reason(FAILING, NOW - 4 * DAY) is None
    gone = replace(FAILING, failing_since=NOW, gone=True)
    assert disable_reason(gone, NOW - DAY) == "gone"
    assert disable_reason(gone, NOW + DAY) is None


def test_consecutive_failures_open_the_breaker_and_probes_become_rarer() -> None:
    breaker, now = CircuitBreaker(), 1000.0
    for _ in range(FAILURES):
        assert breaker.closed
        assert breaker.allowed_at() <= now
        breaker.started()
        breaker.failed(now)
    waits = []
    for _ in range(6):
        assert not breaker.closed
        waits.append(breaker.allowed_at() - now)
        now = breaker.allowed_at()
        breaker.started()
        assert breaker.allowed_at() == math.inf, "one probe at a time"
        breaker.failed(now)
    assert waits == [PROBE_S, 2 * PROBE_S, 4 * PROBE_S, 8 * PROBE_S, MAX_PROBE_S, MAX_PROBE_S]


def test_one_success_closes_the_breaker_for_good() -> None:
    breaker = CircuitBreaker()
    for _ in range(FAILURES):
        breaker.started()
        breaker.failed(0)
    breaker.started()
    breaker.succeeded()
    assert breaker.closed
    assert breaker.allowed_at() <= 0
    breaker.failed(1)
    assert breaker.closed


def test_failures_of_attempts_in_flight_do_not_count_as_probes() -> None:
    breaker = CircuitBreaker()
    for _ in range(FAILURES + 3):
        breaker.failed(10)
    assert breaker.allowed_at() == 10 + PROBE_S


def test_an_abandoned_probe_allows_the_next_one() -> None:
    breaker = CircuitBreaker()
    for _ in range(FAILURES):
        breaker.failed(0)
    breaker.started()
    breaker.abandoned()
    assert breaker.allowed_at() == PROBE_S


def test_a_requested_pause_is_kept() -> None:
    breaker = CircuitBreaker()
    breaker.pause(50)
    breaker.pause(40)
    assert breaker.closed
    assert breaker.allowed_at() == 50
