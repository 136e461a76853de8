"""Limits of concurrent requests to sites: a site that hangs or fails does not use up the slots of others."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

_PER_ORIGIN: Final = 4
_HEALTHY: Final = 64
_FAILING: Final = 16
_FAILING_ORIGINS: Final = 10_000


class OriginSlots:
    """Slots by origin, and two pools: one for origins whose last request failed, one for all others."""

    def __init__(self, per_origin: int = _PER_ORIGIN, healthy: int = _HEALTHY, failing: int = _FAILING) -> None:
        """Allow so many requests at once per origin, and to healthy and failing origins together."""
        self._per_origin = per_origin
        self._pools = {False: asyncio.Semaphore(healthy), True: asyncio.Semaphore(failing)}
        self._origins: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()
        self._failing: dict[str, None] = {}

    @asynccontextmanager
    async def slot(self, origin: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        self._users[origin] += 1
        try:
            # The origin's own slot first: one that hangs holds no more of its pool than its own slots.
            own = self._origins.setdefault(origin, asyncio.Semaphore(self._per_origin))
            async with own, self._pools[origin in self._failing]:
                yield
        finally:
            self._users[origin] -= 1
            if not self._users[origin]:
                del self._users[origin], self._origins[origin]

    def record(self, origin: str, *, failed: bool) -> None:
        """Record how the last request to an origin ended."""
        self._failing.pop(origin, None)
        if failed:
            self._failing[origin] = None
            if len(self._failing) > _FAILING_ORIGINS:
                del self._failing[next(iter(self._failing))]
