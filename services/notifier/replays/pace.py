"""Due time of each event of a replay: the events' own times, stretched, with capped gaps and a rate limit. Pure."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Final

from contracts.replay import PAUSE_SHARE, PAUSE_WINDOW, SPEED_FACTORS, ReplayPace
from services.notifier.replays.target import SendOutcome

#: How far behind its schedule a replay catches up at full speed; beyond it the rest of the schedule moves back.
CATCH_UP_S: Final = 1.0
#: Events per second that a target takes at full speed, for the estimate of a plan (bench/replays.py).
FULL_SPEED_PER_S: Final = 5000.0


class Schedule:
    """Due times on a clock in seconds, each from the one before: an event that is late delays no other one."""

    def __init__(self, pace: ReplayPace) -> None:
        """Begin with the next event, which is due at once."""
        self._factor = SPEED_FACTORS[pace.speed]
        self._max_gap_s = pace.max_gap_s
        self._interval_s = 1 / pace.rate_per_s if pace.rate_per_s else 0.0
        self._last: datetime | None = None
        self._due = 0.0

    def due(self, time: datetime, now: float) -> float:
        """Return when an event with this time of its own is due; call it once for each, in their order."""
        if self._last is None:
            self._due = now
        else:
            gap_s = self._gap_s((time - self._last).total_seconds())
            self._due = max(self._due + max(gap_s, self._interval_s), now - CATCH_UP_S)
        self._last = time
        return self._due

    def delay(self, seconds: float) -> float:
        """Move the schedule back after a pause; return the new due time of the newest event."""
        self._due += seconds
        return self._due

    def _gap_s(self, event_gap_s: float) -> float:
        if not self._factor:
            return 0.0
        gap_s = max(0.0, event_gap_s) / self._factor
        return gap_s if self._max_gap_s is None else min(gap_s, self._max_gap_s)


def estimated_seconds(pace: ReplayPace, count: int, span_s: float) -> float:
    """Return how long a replay takes whose last event came ``span_s`` after its first; at most, with ``max_gap_s``."""
    gaps = max(0, count - 1)
    factor = SPEED_FACTORS[pace.speed]
    seconds = max(0.0, span_s) / factor if factor else count / FULL_SPEED_PER_S
    if factor and pace.max_gap_s is not None:
        seconds = min(seconds, gaps * pace.max_gap_s)
    return max(seconds, gaps / pace.rate_per_s) if pace.rate_per_s else seconds


class FailureWindow:
    """Outcomes of the newest events, which tell when a replay should pause itself."""

    def __init__(self) -> None:
        """Begin without any."""
        self._failed: deque[bool] = deque(maxlen=PAUSE_WINDOW)

    def add(self, outcome: SendOutcome) -> bool:
        """Add an outcome; return whether too many failed. Events that the target does not take count for nothing."""
        if outcome is SendOutcome.SKIPPED:
            return False
        self._failed.append(outcome is SendOutcome.FAILED)
        return sum(self._failed) > PAUSE_SHARE * PAUSE_WINDOW

    @property
    def failed(self) -> int:
        """How many failed."""
        return sum(self._failed)
