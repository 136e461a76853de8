"""Objects whose bytes a client takes at its own speed: each tenant has a share of the connections to the bucket."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.quotas import QuotaName
from kit.auth.quotas import Quotas
from kit.bucket import Bucket, OpenObject
from kit.s3_client import READ_CONNECTIONS

#: Reads of clients at a time. The other connections are for what the gateway reads itself, which no client slows.
PLACES: Final = READ_CONNECTIONS - 20
#: How long a read waits until its tenant has room for it, seconds: a browser opens the files of a page all at once.
WAIT_S: Final = 5.0


class ObjectReads:
    """Opens objects, and counts those that each tenant has open.

    A tenant has at most its quota open, and not more than are free: however many tenants read slowly, there is a place
    for one more reader of the others.
    """

    def __init__(self, bucket: Bucket, quotas: Quotas, *, places: int = PLACES, wait_s: float = WAIT_S) -> None:
        """Read from ``bucket``, at most ``places`` objects at a time."""
        self.bucket = bucket
        self._quotas, self._places, self._wait_s = quotas, places, wait_s
        self._open: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def opened(self, tenant: str, key: str) -> AsyncIterator[OpenObject]:
        """Open an object of a tenant for reading; wait for a moment while it has no room.

        Raises:
            ObjectMissing: there is none.
            SaccadeError: RATE_LIMITED; STORAGE_UNAVAILABLE, also while it is read.
        """
        await self._take(tenant)
        try:
            async with self.bucket.opened(key) as opened:
                yield opened
        finally:
            self._release(tenant)

    async def _take(self, tenant: str) -> None:
        """Take a place, behind the tenant's earlier readers.

        Raises:
            SaccadeError: RATE_LIMITED, STORAGE_UNAVAILABLE.
        """
        turns = self._waiting.get(tenant)
        if not turns and self._has_room(tenant):
            self._open[tenant] += 1
            return
        if turns and len(turns) >= self._limit(tenant):
            self._refuse(tenant)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(turn)
        try:
            await asyncio.wait([turn], timeout=self._wait_s)
        except asyncio.CancelledError:
            if turn.done():  # it got its place in the same moment
                self._release(tenant)
            raise
        finally:
            if not turn.done():
                self._forget(tenant, turn)
        if not turn.done():
            self._refuse(tenant)

    def _release(self, tenant: str) -> None:
        """Release a place, and pass what is free on to those who wait."""
        self._open[tenant] -= 1
        if not self._open[tenant]:
            del self._open[tenant]
        for waiting, turns in list(self._waiting.items()):
            while turns and self._has_room(waiting):
                self._open[waiting] += 1
                turns.popleft().set_result(None)
            if not turns:
                del self._waiting[waiting]

    def _forget(self, tenant: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting[tenant]
        turns.remove(turn)
        if not turns:
            del self._waiting[tenant]

    def _has_room(self, tenant: str) -> bool:
        return self._open[tenant] < min(self._limit(tenant), self._places - self._open.total())

    def _limit(self, tenant: str) -> int:
        return self._quotas.limit(tenant, QuotaName.OBJECT_READS)

    def _refuse(self, tenant: str) -> None:
        """Refuse a read of a tenant without room.

        Raises:
            SaccadeError: RATE_LIMITED; STORAGE_UNAVAILABLE, if others have it all.
        """
        used = self._open[tenant]
        if not used and self._limit(tenant):
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "All connections for reading objects are in use.")
        self._quotas.require(tenant, QuotaName.OBJECT_READS, used, most=used)
