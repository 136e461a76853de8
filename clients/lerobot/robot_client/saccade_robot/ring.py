"""Hands what a control thread offers to another thread: without a lock, newest first to stay, and nothing uncounted."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Ring(Generic[_T]):
    """A queue of one producer and one consumer that drops its oldest when it is full.

    A ``deque`` with a ``maxlen`` appends and drops in one step that no other thread sees half done, so neither side
    ever waits. What was dropped shows as a gap in the numbers of what was taken.
    """

    def __init__(self, capacity: int) -> None:
        """Hold at most ``capacity`` items."""
        self._items: deque[tuple[int, _T]] = deque(maxlen=capacity)
        self._offered = 0
        self._taken = 0
        self._last_taken = -1

    def offer(self, item: _T) -> int:
        """Add one item, dropping the oldest if there is no room, and give its number; the producer's side."""
        sequence = self._offered
        # The number is taken first: were the thread to end in between, the gap would be counted as a drop.
        self._offered = sequence + 1
        self._items.append((sequence, item))
        return sequence

    def take(self, most: int) -> list[tuple[int, _T]]:
        """Take at most so many of the oldest, with their numbers; the consumer's side."""
        taken: list[tuple[int, _T]] = []
        while len(taken) < most and self._items:
            taken.append(self._items.popleft())
        if taken:
            self._taken += len(taken)
            self._last_taken = taken[-1][0]
        return taken

    @property
    def offered(self) -> int:
        """Count what was ever offered."""
        return self._offered

    @property
    def dropped(self) -> int:
        """Count what was dropped before the newest item that was taken: the gaps that whoever took them sees."""
        return self._last_taken + 1 - self._taken

    @property
    def lost(self) -> int:
        """Count all that was dropped, also what will be a gap only when more is taken; exact while nobody offers."""
        return max(self.dropped, self._offered - self._taken - len(self._items))

    @property
    def waiting(self) -> int:
        """Count what can be taken."""
        return len(self._items)
