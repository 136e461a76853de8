"""Report of the dispatcher that leads, from its lease: the workers' packages, the operator's orders and budget."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from contracts.errors import SaccadeError
from contracts.streams import DISPATCHER_LEASE
from kit.bus.event_store import EventStore

#: Age at which what is known is read again, and deadline of that read.
_REFRESH_S: Final = 1.0
_DEADLINE_S: Final = 0.5


class DispatcherReport:
    """Details of the lease; the last ones hold while no dispatcher leads."""

    def __init__(self, leases: EventStore) -> None:
        """``leases`` is the stream of leases."""
        self._leases = leases
        self._known: Mapping[str, Any] = {}
        self._read_at_s = float("-inf")

    async def known(self) -> Mapping[str, Any]:
        """Return the details, at most a second old; empty while no dispatcher has reported.

        That none has reported is not kept: the first one that leads is heard of at once.
        """
        now_s = asyncio.get_running_loop().time()
        if now_s - self._read_at_s >= _REFRESH_S:
            self._read_at_s = now_s
            try:
                reported = await self._read()
            except (SaccadeError, ValueError):
                return self._known
            if not (reported or self._known):
                self._read_at_s = float("-inf")
            self._known = reported or self._known
        return self._known

    async def _read(self) -> Mapping[str, Any]:
        """Return what the lease says; empty if no dispatcher leads.

        Raises:
            SaccadeError: the bus does not answer.
            ValueError: the lease is no JSON.
        """
        stored = await self._leases.load(DISPATCHER_LEASE, deadline_s=_DEADLINE_S)
        details = json.loads(stored[-1].body) if stored else None
        return details if isinstance(details, dict) else {}
