"""Monotonic unix clock of the robot, and its offset from the server's clock (RFC 5905, section 8)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final, NamedTuple

#: Requests per measurement; the one with the shortest round trip gives the best offset.
CLOCK_PROBES: Final = 8

#: Upper bound of the drift between two free-running clocks: 100 ppm, 3 ms in half a minute.
_DRIFT: Final = 1e-4

#: The system clock may be set while the robot runs (a board without a battery starts in the past), but intervals must
#: not jump. So the system clock is read once, and the monotonic clock continues from there.
_ANCHOR_S: Final = time.time() - time.monotonic()


def now_s() -> float:
    """Return unix seconds by a clock that never jumps."""
    return _ANCHOR_S + time.monotonic()


class Exchange(NamedTuple):
    """One time request: when it was sent, the server's time, and when the answer came."""

    sent_s: float
    server_s: float
    received_s: float

    @property
    def round_trip_s(self) -> float:
        """Round-trip time, s."""
        return self.received_s - self.sent_s


class Offset(NamedTuple):
    """``server = robot + offset_s``, with an error of at most ``error_s`` for any asymmetry of the network."""

    offset_s: float
    error_s: float


def estimate_offset(exchanges: Iterable[Exchange]) -> Offset | None:
    """Estimate the offset from the exchange with the shortest round trip; None without exchanges."""
    best = min(exchanges, key=lambda exchange: exchange.round_trip_s, default=None)
    if best is None:
        return None
    half_s = best.round_trip_s / 2
    return Offset(best.server_s - (best.sent_s + half_s), max(half_s, 0.0))


class OffsetFilter:
    """Filter that keeps the most exact offset: an old exact one is better than a new one with a long round trip.

    All requests of one measurement may be delayed in one direction; their offset is then wrong by up to half the round
    trip. The clock filter of RFC 5905, section 10, also keeps the fastest.
    """

    def __init__(self) -> None:
        """Start without an offset."""
        self._best: Offset | None = None
        self._measured_at_s = 0.0

    def add(self, measured: Offset, at_s: float) -> Offset:
        """Add a measurement, and return the best offset with its present error.

        Args:
            measured: the newest offset.
            at_s: time of the measurement by the robot's clock.
        """
        if self._best is not None:
            drifted_s = _DRIFT * max(0.0, at_s - self._measured_at_s)
            known = Offset(self._best.offset_s, self._best.error_s + drifted_s)
            # If they disagree by more than their errors, a clock was set: use the newer one.
            agree = abs(known.offset_s - measured.offset_s) <= known.error_s + measured.error_s
            if agree and known.error_s < measured.error_s:
                return known
        self._best, self._measured_at_s = measured, at_s
        return measured
