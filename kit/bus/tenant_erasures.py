"""Ends a process after a tenant was erased: the next one starts without what this one has in memory."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from kit.bus.event_store import StoredEvent
from kit.bus.tail import EpochChanged

log = logging.getLogger(__name__)

_SUBJECT: Final = "saccade.evt._system.erasure."
_SCOPE: Final = b'"scope":"tenant"'
#: Time for the process that has erased the tenant to delete the request.
_DELAY_S: Final = 1.0


class TenantErasures:
    """Erasures of tenants after a position of the stream."""

    def __init__(self, after: int = 0) -> None:
        """Ignore erasures up to the sequence ``after``: this process has never read what they deleted."""
        self.after = after
        self._erased = asyncio.Event()

    def on_event(self, stored: StoredEvent) -> None:
        """Take note of an event of the stream."""
        if stored.sequence > self.after and stored.subject.startswith(_SUBJECT) and _SCOPE in stored.body:
            self._erased.set()

    async def run(self) -> None:
        """Wait for the erasure of a tenant.

        Raises:
            EpochChanged: a tenant was erased; start again.
        """
        await self._erased.wait()
        await asyncio.sleep(_DELAY_S)
        log.warning("a tenant was erased: restarting, to forget it")
        raise EpochChanged
