"""Lane of the replays into one endpoint, below that of its live deliveries. Pure; the time is an argument."""

from __future__ import annotations

import math
from typing import Final

from services.notifier.webhooks.deliveries.retry_schedule import MAX_DELAY_S
from services.notifier.webhooks.endpoints.quiet_hours import QuietHours
from services.notifier.webhooks.sending.rate_limit import RateLimit

_RATE_LIMITED: Final = frozenset({429, 503})


class ReplayLane:
    """Limits of what replays send to one endpoint; times are Unix seconds.

    Both live and replayed requests count in its rate, and only replayed ones wait for it: a replay gets what live
    deliveries leave. It has no circuit breaker, since a replay pauses itself when too many attempts fail.
    """

    def __init__(self) -> None:
        """Begin without requests."""
        # No burst: it would come on top of the live requests of the same second.
        self.rate = RateLimit(burst_s=0.0)
        self._paused_until = -math.inf

    def allows_at(self, now: float, quiet_hours: QuietHours | None) -> float:
        """Return the time from which a replayed request is allowed, live deliveries apart."""
        quiet = -math.inf if quiet_hours is None else quiet_hours.over_at_s(now)
        return max(self.rate.allows_at(), self._paused_until, quiet)

    def count(self, now: float) -> None:
        """Count a request, live or replayed."""
        self.rate.count(now)

    def answered(self, status: int | None, retry_after_s: float | None, now: float) -> None:
        """Wait as long as an overloaded receiver asks for."""
        if retry_after_s and status in _RATE_LIMITED:
            self._paused_until = max(self._paused_until, now + min(retry_after_s, MAX_DELAY_S))
