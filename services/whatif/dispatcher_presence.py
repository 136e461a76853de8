"""Times at which a dispatcher is known to have been there: it published something. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from datetime import datetime, timedelta


class DispatcherPresence:
    """Times at which a dispatcher published."""

    def __init__(self, times: Iterable[datetime], lateness_s: float) -> None:
        """``lateness_s``: longest time that a dispatcher which is there may take to act."""
        self._times = sorted(times)
        self.lateness_s = lateness_s

    def was_there(self, since: datetime, until: datetime) -> bool:
        """Return whether a dispatcher was surely there long enough between two times to act on what was due.

        It was, if it published again and again: in a longer pause nobody may have led, and what was due then may have
        been done right after it.
        """
        allowed = timedelta(seconds=self.lateness_s)
        begin = since
        first = bisect_left(self._times, since)
        for moment in self._times[first:]:
            if moment >= until:
                break
            if moment - begin > allowed:
                return False
            if moment - since > allowed:
                return True
            begin = moment
        return until - begin <= allowed and until - since > allowed
