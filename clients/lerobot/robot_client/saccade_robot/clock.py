"""What time it is for the robot, and how far that is from the server's time (offset of RFC 5905, section 8)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

#: Of so many questions the one with the shortest way tells the offset best.
QUESTIONS: Final = 8

#: The system's clock may be set while the robot runs (a board without a battery starts in the past); intervals must
#: not jump then. So one reading of it is taken, and the monotonic clock goes on from there.
_ANCHOR_S: Final = time.time() - time.monotonic()


def now_s() -> float:
    """Give the time in unix seconds by a clock that never jumps."""
    return _ANCHOR_S + time.monotonic()


class Exchange(NamedTuple):
    """One question about the time: when it was sent, what was answered, and when the answer came."""

    sent_s: float
    server_s: float
    received_s: float

    @property
    def round_trip_s(self) -> float:
        """Give how long it took."""
        return self.received_s - self.sent_s


class Offset(NamedTuple):
    """``server = robot + offset_s``, wrong by at most ``error_s`` whatever the ways there and back took."""

    offset_s: float
    error_s: float


def offset_of(exchanges: Iterable[Exchange]) -> Offset | None:
    """Estimate the offset by the exchange with the shortest round trip; None when there is none."""
    best = min(exchanges, key=lambda exchange: exchange.round_trip_s, default=None)
    if best is None:
        return None
    half_s = best.round_trip_s / 2
    return Offset(best.server_s - (best.sent_s + half_s), max(half_s, 0.0))
