"""Retry schedule of webhook deliveries and the rule that disables an endpoint. Pure: time and chance are arguments.

Source of the schedule: Svix, and Standard Webhooks 1.0.0 (operational considerations).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from services.notifier.webhooks.deliveries.delivery import FailureRun

#: Delays before the second, third … attempt; the first is made at once. Eight attempts in 28 hours.
RETRY_DELAYS_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
#: Each delay is spread by up to this share, so that deliveries that failed together are not retried together.
JITTER: Final = 0.2
#: Minimum delay after an overloaded receiver or a timeout.
BUSY_DELAY_S: Final = 60.0
#: A receiver's Retry-After cannot exceed the longest delay of the schedule.
MAX_DELAY_S: Final = max(RETRY_DELAYS_S)
#: An endpoint whose attempts have only failed for this long is disabled.
DISABLE_AFTER: Final = timedelta(days=5)

_GONE: Final = 410
_BUSY: Final = frozenset({429, 502, 503, 504})
#: A mail server refuses this message for good; the next one may be accepted.
_REFUSED: Final = "smtp_refused"
_SMTP_REPLIES: Final = frozenset({_REFUSED, "smtp_deferred", "smtp_auth_failed"})
#: Errors after which a receiver needs time.
_WAITING: Final = frozenset({"timeout", "too_slow", "smtp_deferred"})


def next_delay_s(
    attempt: int, *, status: int | None, error: str | None, retry_after_s: float | None, chance: float
) -> float | None:
    """Return the delay in seconds after failed attempt number ``attempt`` (from 1); None after the last one.

    ``chance`` in 0..1 sets the jitter. ``Retry-After`` can only make the delay longer.
    """
    if is_gone(status, error) or error == _REFUSED or attempt > len(RETRY_DELAYS_S):
        return None
    delay_s = RETRY_DELAYS_S[attempt - 1] * (1 + JITTER * (2 * chance - 1))
    if (error == "http_status" and status in _BUSY) or error in _WAITING:
        delay_s = max(delay_s, BUSY_DELAY_S * (1 + JITTER * chance))
    return max(delay_s, min(retry_after_s or 0.0, MAX_DELAY_S))


def is_gone(status: int | None, error: str | None) -> bool:
    """Return whether the receiver wants no further events (410); the replies of mail servers have other meanings."""
    return status == _GONE and error == "http_status"


def is_responsive(status: int | None, error: str | None = None) -> bool:
    """Return whether the receiver works, even if it refuses this event: any answer but overload or a server error."""
    if error in _SMTP_REPLIES:
        return error == _REFUSED
    return status is not None and status < 500 and status not in (408, 429)


def disable_reason(failures: FailureRun, changed_at: datetime) -> Literal["gone", "failing"] | None:
    """Return why an endpoint has to be disabled, or None; failures before its last change do not count."""
    if failures.failed_at < changed_at:
        return None
    if failures.gone:
        return "gone"
    since = max(failures.failing_since, changed_at)
    return "failing" if failures.failed_at - since >= DISABLE_AFTER else None
