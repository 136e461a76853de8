"""What time it is for the robot, and how far that is from the server's time (offset of RFC 5905, section 8)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

#: Of so many questions the one with the shortest way tells the offset best.
CLOCK_PROBES: Final = 8

#: Two clocks that nobody corrects drift apart by less: a hundred millionths, 3 ms in half a minute.
_DRIFT: Final = 1e-4

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


def estimate_offset(exchanges: Iterable[Exchange]) -> Offset | None:
    """Estimate the offset by the exchange with the shortest round trip; None when there is none."""
    best = min(exchanges, key=lambda exchange: exchange.round_trip_s, default=None)
    if best is None:
        return None
    half_s = best.round_trip_s / 2
    return Offset(best.server_s - (best.sent_s + half_s), max(half_s, 0.0))


class OffsetFilter:
    """The best offset that is known: an old one that is exact is better than a new one that was long on its way.

    All questions of one round may have waited on one side of a line that stood still; their offset is then wrong by up
    to half of what they took. The clock filter of RFC 5905, section 10, keeps the quickest too.
    """

    def __init__(self) -> None:
        """Know none."""
        self._best: Offset | None = None
        self._measured_at_s = 0.0

    def take(self, measured: Offset, at_s: float) -> Offset:
        """Take what was measured, and give the best that is known now, with how far it may be off by now.

        Args:
            measured: the newest.
            at_s: when, by the robot's clock.
        """
        if self._best is not None:
            drifted_s = _DRIFT * max(0.0, at_s - self._measured_at_s)
            known = Offset(self._best.offset_s, self._best.error_s + drifted_s)
            # Both cannot be right where they are further apart than that: a clock was set, and the newer counts.
            agree = abs(known.offset_s - measured.offset_s) <= known.error_s + measured.error_s
            if agree and known.error_s < measured.error_s:
                return known
        self._best, self._measured_at_s = measured, at_s
        return measured
