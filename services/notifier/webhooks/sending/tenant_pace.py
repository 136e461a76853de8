"""Lets tasks of one tenant that end together continue one after another, so that other tenants' tasks run in between.

A hundred receivers that do not answer time out together, as they were asked together, and each has a record to store.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from kit.auth.loop_time_shares import LoopTimeShares

#: Pause between two tasks of a tenant, in which others find the loop idle.
_BETWEEN_S: Final = 0.001


class TenantPace:
    """Places in line, one line for each tenant."""

    def __init__(self) -> None:
        """Start without lines."""
        self._lines: dict[str, asyncio.Lock] = {}
        self._waiting: Counter[str] = Counter()
        #: Tenants of which a task has continued in this iteration of the loop.
        self._continued: set[str] = set()
        #: Which tenants are there: one alone does not pause.
        self._seen = LoopTimeShares()

    async def turn(self, tenant: str) -> None:
        """Wait behind the tenant's earlier tasks; the first in an iteration of the loop goes on at once."""
        self._seen.seen(tenant, asyncio.get_running_loop().time())
        if tenant in self._waiting or tenant in self._continued:
            await self._wait(tenant)
        if not self._continued:
            asyncio.get_running_loop().call_soon(self._continued.clear)
        self._continued.add(tenant)

    async def _wait(self, tenant: str) -> None:
        self._waiting[tenant] += 1
        try:
            async with self._lines.setdefault(tenant, asyncio.Lock()):
                has_others = self._seen.has_others(tenant, asyncio.get_running_loop().time())
                await asyncio.sleep(_BETWEEN_S if has_others else 0)
        finally:
            self._waiting[tenant] -= 1
            if not self._waiting[tenant]:
                del self._waiting[tenant], self._lines[tenant]
