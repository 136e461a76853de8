"""Clock offset of each sender: as stated by the sender, or estimated from its least delayed message."""

from __future__ import annotations

from collections import deque
from typing import Final

from contracts.telemetry import Clock

#: Messages of the estimate: about ten seconds at 30 Hz, in which clock drift is negligible.
_WINDOW: Final = 300


class ClockOffsets:
    """Clock offsets by sender: ``server = sender + offset``, seconds.

    A stated offset is used as it is. Otherwise the offset is the minimum of arrival minus capture over the newest
    messages: never too small, and too large by the shortest network delay.
    Source: Cristian 1989, "Probabilistic clock synchronization"; the bound is one-way.
    """

    def __init__(self) -> None:
        self._differences: dict[str, deque[float]] = {}
        self._stated: dict[str, Clock] = {}

    def observe(self, source: str, *, captured_at_s: float, arrived_at_s: float, stated: Clock | None) -> None:
        """Record the times of one message."""
        if stated is not None:
            self._stated[source] = stated
        self._differences.setdefault(source, deque(maxlen=_WINDOW)).append(arrived_at_s - captured_at_s)

    def offset_s(self, source: str) -> float:
        """Return a sender's offset; 0 for an unknown sender."""
        if source in self._stated:
            return self._stated[source].offset_s
        return min(self._differences.get(source, (0.0,)))
