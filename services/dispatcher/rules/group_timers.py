"""Times at which waiting groups are looked at again; memory follows the groups that wait. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime
from typing import Final

#: The heap is rebuilt when it is larger than twice its valid entries plus this.
_SLACK: Final = 64


class GroupTimers:
    """Heap of times. An entry stays when its group is looked at or gone, until it is due or there are too many."""

    def __init__(self, waits: Callable[[str], bool]) -> None:
        """``waits`` tells whether a group still waits."""
        self._waits = waits
        self._heap: list[tuple[datetime, str]] = []
        self._most = _SLACK

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def first(self) -> datetime | None:
        """Return the next time; None if there is none."""
        return self._heap[0][0] if self._heap else None

    def add(self, group_id: str, at: datetime) -> None:
        """Look at a group at this time."""
        heapq.heappush(self._heap, (at, group_id))
        if len(self._heap) > self._most:
            # The earliest time of each group: one look too many does no harm, one too late would.
            first = {group_id: at for at, group_id in sorted(self._heap, reverse=True) if self._waits(group_id)}
            self._heap = sorted((at, group_id) for group_id, at in first.items())
            self._most = 2 * len(self._heap) + _SLACK

    def take_due(self, now: datetime) -> list[str]:
        """Remove and return the groups whose time has come."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[1])
        return due
