"""Circuit breaker of one receiver: after a row of failures it is only probed, rarer and rarer. Pure; times are given.

Without it a dead receiver holds sockets and time for as many attempts as wait for it.
"""

from __future__ import annotations

import math
from typing import Final

#: Failures in a row after which only probes are made.
FAILURES: Final = 5
PROBE_S: Final = 30.0
LONGEST_PROBE_S: Final = 300.0


class Breaker:
    """Counts one receiver's failures in a row; times are seconds of one clock."""

    def __init__(self) -> None:
        """Begin closed: attempts are made."""
        self._failures = 0
        self._wait_s = PROBE_S
        self._probe_at = -math.inf
        self._probing = False
        self._paused_until = -math.inf

    @property
    def closed(self) -> bool:
        """Tell whether attempts are made without limit."""
        return self._failures < FAILURES

    def allowed_at(self) -> float:
        """Give the time from which an attempt may be made; infinite while a probe is out."""
        if self.closed:
            return self._paused_until
        return math.inf if self._probing else max(self._probe_at, self._paused_until)

    def started(self) -> None:
        """Note that an attempt is made: the probe, when it is not closed."""
        self._probing = not self.closed

    def succeeded(self) -> None:
        """Note that the receiver works."""
        self._failures, self._wait_s, self._probing = 0, PROBE_S, False

    def failed(self, now: float) -> None:
        """Note that the receiver did not work."""
        if self.closed:
            self._failures += 1
            if not self.closed:
                self._probe_at = now + self._wait_s
        elif self._probing:
            self._probing = False
            self._wait_s = min(2 * self._wait_s, LONGEST_PROBE_S)
            self._probe_at = now + self._wait_s

    def abandoned(self) -> None:
        """Note that an attempt was not made after all."""
        self._probing = False

    def pause(self, until: float) -> None:
        """Make no attempt before a time: the receiver asked for it."""
        self._paused_until = max(self._paused_until, until)
