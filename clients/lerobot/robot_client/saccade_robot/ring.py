"""Lock-free ring buffer between the control thread and the streamer's thread; it drops the oldest and counts drops."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Ring(Generic[_T]):
    """Queue of one producer and one consumer that drops its oldest item when it is full.

    A ``deque`` with a ``maxlen`` appends and drops atomically, so neither side waits. Dropped items show as gaps in the
    sequence numbers of the taken items.
    """

    def __init__(self, capacity: int) -> None:
        """Hold at most ``capacity`` items."""
        self._items: deque[tuple[int, _T]] = deque(maxlen=capacity)
        self._offered = 0
        self._taken = 0
        self._last_taken = -1

    def offer(self, item: _T) -> int:
        """Add an item, dropping the oldest if the ring is full, and return its sequence number; for the producer."""
        sequence = self._offered
        # The number is assigned first: if the thread ends in between, the gap counts as a drop.
        self._offered = sequence + 1
        self._items.append((sequence, item))
        return sequence

    def take(self, limit: int) -> list[tuple[int, _T]]:
        """Remove and return up to ``limit`` of the oldest items with their sequence numbers; for the consumer."""
        taken: list[tuple[int, _T]] = []
        while len(taken) < limit and self._items:
            taken.append(self._items.popleft())
        if taken:
            self._taken += len(taken)
            self._last_taken = taken[-1][0]
        return taken

    @property
    def offered(self) -> int:
        """Number of items ever offered."""
        return self._offered

    @property
    def dropped(self) -> int:
        """Number of items dropped before the newest taken item: the gaps that the consumer sees."""
        return self._last_taken + 1 - self._taken

    @property
    def lost(self) -> int:
        """Number of all dropped items, including gaps not yet seen; exact while nothing is offered."""
        return max(self.dropped, self._offered - self._taken - len(self._items))

    @property
    def waiting(self) -> int:
        """Number of items that can be taken."""
        return len(self._items)
