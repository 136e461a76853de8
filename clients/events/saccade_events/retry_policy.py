"""Retry policy of a reaction: how often an event is delivered, and how long between. No I/O."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

#: Share by which a delay is longer or shorter, so that events that failed together do not all come back together.
_SPREAD: Final = 0.2


@dataclass(frozen=True)
class RetryPolicy:
    """Attempts at an event and the delays between them; field names as in Temporal's RetryPolicy."""

    #: Deliveries of an event. The handler that fails in the last one makes it a dead letter; so does a process that
    #: dies in each of them.
    maximum_attempts: int = 8
    #: Delay before the second attempt; it doubles with each further one up to the maximum.
    initial_interval_s: float = 1.0
    maximum_interval_s: float = 300.0
    #: Time without a sign of life after which another process may have the event. A handler that runs longer keeps it:
    #: the process reports progress three times in it.
    ack_wait_s: float = 10.0
    #: Time after which a handler is cancelled and counts as failed.
    handler_timeout_s: float = 600.0

    def delay_s(self, delivery: int) -> float:
        """Return the delay after a delivery that failed; the first is 1."""
        # The exponent is limited: 2 to the power of a large number of deliveries is no float.
        interval_s = min(self.initial_interval_s * 2 ** min(delivery - 1, 32), self.maximum_interval_s)
        return float(interval_s * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - no secret
