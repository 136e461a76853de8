"""Rate limit of one receiver. Pure; the time is an argument."""

from __future__ import annotations

import math


class RateLimit:
    """Limit of requests per second; times are seconds of one clock."""

    def __init__(self, per_s: float | None = None, burst_s: float = 1.0) -> None:
        """Allow ``per_s`` requests per second (None: any number), after a pause those of ``burst_s`` at once."""
        self.per_s = per_s
        self._burst_s = burst_s
        self._allows_at = -math.inf

    def allows_at(self) -> float:
        """Return the time from which a request is allowed."""
        return self._allows_at

    def count(self, now: float) -> None:
        """Count a request."""
        if self.per_s:
            # After a pause, the worth of a burst may be sent at once; at less than one a burst, one.
            interval_s = 1 / self.per_s
            self._allows_at = max(self._allows_at, now - max(0.0, self._burst_s - interval_s)) + interval_s

    def reset(self) -> None:
        """Forget the requests."""
        self._allows_at = -math.inf
