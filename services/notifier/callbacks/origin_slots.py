"""Limits of concurrent requests to sites: a site that hangs or fails does not use up the slots of others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.notifier.keyed_slots import KeyedSlots

_PER_ORIGIN: Final = 4
_HEALTHY: Final = 64
_FAILING: Final = 16
_FAILING_ORIGINS: Final = 10_000
#: Uploads at once of one tenant, and of all.
_UPLOADS_PER_TENANT: Final = 16
_UPLOADS: Final = 64


class UploadSlots:
    """Slots of uploads, apart from those of other requests: a slow site may take hours for one."""

    def __init__(
        self, per_origin: int = _PER_ORIGIN, per_tenant: int = _UPLOADS_PER_TENANT, uploads: int = _UPLOADS
    ) -> None:
        """Allow so many uploads at once per origin, per tenant, and in all."""
        self._origins, self._tenants = KeyedSlots(per_origin), KeyedSlots(per_tenant)
        self._uploads = asyncio.Semaphore(uploads)

    @asynccontextmanager
    async def slot(self, tenant: str, origin: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        # The narrowest limit first: who waits for it holds nothing that others need.
        async with self._origins.slot(origin), self._tenants.slot(tenant), self._uploads:
            yield


class OriginSlots:
    """Slots by origin, and two pools: one for origins whose last request failed, one for all others."""

    def __init__(self, per_origin: int = _PER_ORIGIN, healthy: int = _HEALTHY, failing: int = _FAILING) -> None:
        """Allow so many requests at once per origin, and to healthy and failing origins together."""
        self._origins = KeyedSlots(per_origin)
        self._pools = {False: asyncio.Semaphore(healthy), True: asyncio.Semaphore(failing)}
        self._failing: dict[str, None] = {}

    @asynccontextmanager
    async def slot(self, origin: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        # The origin's own slot first: one that hangs holds no more of its pool than its own slots.
        async with self._origins.slot(origin), self._pools[origin in self._failing]:
            yield

    def record(self, origin: str, *, failed: bool) -> None:
        """Record how the last request to an origin ended."""
        self._failing.pop(origin, None)
        if failed:
            self._failing[origin] = None
            if len(self._failing) > _FAILING_ORIGINS:
                del self._failing[next(iter(self._failing))]
