"""Places for work that is done for several tenants: those that wait are served in turn by tenant, not by arrival."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator


class FairSlots:
    """A number of places, of which one tenant has at most ``most_of_one``."""

    def __init__(self, count: int, most_of_one: int | None = None) -> None:
        """Start with all places free; by default one tenant may have all of them, while no other waits."""
        self._free = count
        self._most_of_one = most_of_one or count
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        #: Number of the last place that each tenant got, and of all.
        self._last: dict[str, int] = {}
        self._count = 0

    @contextlib.asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Hold one place while the block runs."""
        await self._take(tenant)
        try:
            yield
        finally:
            self._give_back(tenant)

    async def _take(self, tenant: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it had its place already
                self._give_back(tenant)
            else:
                self._forget(tenant, turn)
            raise

    def _give_back(self, tenant: str) -> None:
        self._free += 1
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        self._serve()

    def _serve(self) -> None:
        """Assign free places to the waiting tenant that has the fewest; among those, to the one served longest ago."""
        while self._free:
            allowed = [tenant for tenant in self._waiting if self._running[tenant] < self._most_of_one]
            if not allowed:
                return
            tenant = min(allowed, key=lambda tenant: (self._running[tenant], self._last.get(tenant, 0)))
            turn = self._waiting[tenant].popleft()
            if not self._waiting[tenant]:
                del self._waiting[tenant]
            if turn.done():
                continue  # it was cancelled while it waited
            self._free -= 1
            self._running[tenant] += 1
            self._count += 1
            self._last[tenant] = self._count
            turn.set_result(None)

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(tenant)
        if waiting is not None and turn in waiting:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[tenant]


def hash_slots(decoders: int) -> FairSlots:
    """Return places for reading files: twice those of the decoders, of which one stays free of any one tenant.

    Reading takes as long as the file is large, and a decoder reads a few kilobytes of it.
    """
    return FairSlots(2 * decoders, most_of_one=2 * decoders - 1)
