"""Slots by key: of one tenant, or one site, so many at a time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager


class KeyedSlots:
    """So many slots for each key, with nothing kept of keys that nobody uses."""

    def __init__(self, per_key: int) -> None:
        """Allow ``per_key`` users of a key at once."""
        self._per_key = per_key
        self._semaphores: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def slot(self, key: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        self._users[key] += 1
        try:
            async with self._semaphores.setdefault(key, asyncio.Semaphore(self._per_key)):
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key], self._semaphores[key]

    def __iter__(self) -> Iterator[str]:
        """Yield the keys that are used."""
        return iter(self._users)

    def __len__(self) -> int:
        """Return the number of keys that are used."""
        return len(self._users)
