"""When an attempt is made again, and when an endpoint is given up. Pure; the time and the chance are given.

Source of the schedule: Svix, and Standard Webhooks 1.0.0 (operational considerations).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from services.notifier.webhooks.deliveries.delivery import Health

#: Waits before the second, third … attempt; the first is made at once. Eight attempts in 28 hours.
RETRIES_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
#: Each wait is spread by up to this share, so that what failed together does not come back together.
JITTER: Final = 0.2
#: A receiver that has too much to do, or did not answer in time, is left alone for at least this long.
BUSY_S: Final = 60.0
#: A receiver cannot put off an attempt for longer than the longest wait of the schedule.
LONGEST_S: Final = max(RETRIES_S)
#: An endpoint that has only failed for this long is disabled.
FAILING: Final = timedelta(days=5)

_GONE: Final = 410
_BUSY: Final = frozenset({429, 502, 503, 504})


def next_attempt_s(
    made: int, *, status: int | None, error: str | None, retry_after_s: float | None, chance: float
) -> float | None:
    """Say how long to wait after the ``made``-th attempt of the schedule (from 1) failed; None when it was the last.

    ``chance`` is between 0 and 1 and spreads the wait. ``Retry-After`` can only make it longer.
    """
    if is_gone(status) or made > len(RETRIES_S):
        return None
    wait_s = RETRIES_S[made - 1] * (1 + JITTER * (2 * chance - 1))
    if status in _BUSY or error in ("timeout", "too_slow"):
        wait_s = max(wait_s, BUSY_S * (1 + JITTER * chance))
    return max(wait_s, min(retry_after_s or 0.0, LONGEST_S))


def is_success(status: int | None) -> bool:
    """Tell whether an answer says that the event was taken: 2xx and nothing else."""
    return status is not None and 200 <= status < 300


def is_gone(status: int | None) -> bool:
    """Tell whether the receiver wants no more events."""
    return status == _GONE


def is_alive(status: int | None) -> bool:
    """Tell whether the receiver works, whatever it thinks of this event: it answered, and not that it cannot now."""
    return status is not None and status < 500 and status not in (408, 429)


def why_disable(health: Health, changed_at: datetime) -> Literal["gone", "failing"] | None:
    """Name why an endpoint must be disabled: ``gone``, ``failing``, or None.

    What happened before the endpoint was last changed says nothing about it as it is now.
    """
    if health.failed_at < changed_at:
        return None
    if health.gone:
        return "gone"
    since = max(health.failing_since, changed_at)
    return "failing" if health.failed_at - since >= FAILING else None
