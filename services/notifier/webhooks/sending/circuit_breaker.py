"""Circuit breaker of one receiver: after repeated failures only probes, less and less often. Pure; time is an argument.

Without it a dead receiver uses sockets and time for each of its pending deliveries.
"""

from __future__ import annotations

import math
from typing import Final

#: Consecutive failures after which only probes are made.
FAILURES: Final = 5
PROBE_S: Final = 30.0
MAX_PROBE_S: Final = 300.0


class CircuitBreaker:
    """Counts one receiver's consecutive failures; times are seconds of one clock."""

    def __init__(self) -> None:
        """Start closed: attempts are allowed."""
        self._failures = 0
        self._wait_s = PROBE_S
        self._probe_at = -math.inf
        self._probing = False
        self._paused_until = -math.inf

    @property
    def closed(self) -> bool:
        """Whether attempts are allowed without limit."""
        return self._failures < FAILURES

    def allowed_at(self) -> float:
        """Return the time from which an attempt is allowed; infinite while a probe is in flight."""
        if self.closed:
            return self._paused_until
        return math.inf if self._probing else max(self._probe_at, self._paused_until)

    def started(self) -> None:
        """Record the start of an attempt: a probe, unless closed."""
        self._probing = not self.closed

    def succeeded(self) -> None:
        """Record a success: close."""
        self._failures, self._wait_s, self._probing = 0, PROBE_S, False

    def failed(self, now: float) -> None:
        """Record a failure: open, or double the time to the next probe."""
        if self.closed:
            self._failures += 1
            if not self.closed:
                self._probe_at = now + self._wait_s
        elif self._probing:
            self._probing = False
            self._wait_s = min(2 * self._wait_s, MAX_PROBE_S)
            self._probe_at = now + self._wait_s

    def abandoned(self) -> None:
        """Record that a started attempt sent nothing."""
        self._probing = False

    def pause(self, until: float) -> None:
        """Allow no attempt before ``until``, for example because of Retry-After."""
        self._paused_until = max(self._paused_until, until)
