"""How far each sender's clock is from ours: as it says itself, or as little as its messages can have been delayed."""

from __future__ import annotations

from collections import deque
from typing import Final

from contracts.telemetry import Clock

#: Messages of which the least delayed one counts: at 30 a second some ten seconds, in which no clock drifts far.
_WINDOW: Final = 300


class Clocks:
    """Offsets by sender: ``server = sender + offset``.

    A sender that states its offset is believed. Of one that does not, the offset is the least difference between
    arrival and capture among its newest messages: never too small, and too large by the shortest delay on the way.
    Source: Cristian 1989, "Probabilistic clock synchronization"; the bound is one-way.
    """

    def __init__(self) -> None:
        self._differences: dict[str, deque[float]] = {}
        self._stated: dict[str, Clock] = {}

    def heard(self, source: str, *, captured_at_s: float, arrived_at_s: float, stated: Clock | None) -> None:
        """Take note of one message."""
        if stated is not None:
            self._stated[source] = stated
        self._differences.setdefault(source, deque(maxlen=_WINDOW)).append(arrived_at_s - captured_at_s)

    def offset_s(self, source: str) -> float:
        """Give a sender's offset; 0 for one that was never heard."""
        if source in self._stated:
            return self._stated[source].offset_s
        return min(self._differences.get(source, (0.0,)))
