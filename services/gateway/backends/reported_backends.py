"""Modules and programs of the workers, read from the lease of the dispatcher that leads."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from contracts.errors import SaccadeError
from contracts.streams import DISPATCHER_LEASE
from kit.bus.event_store import EventStore
from services.gateway.backends.backends import Backends

#: Age at which what is known is read again, and deadline of that read.
_REFRESH_S: Final = 1.0
_DEADLINE_S: Final = 0.5


class ReportedBackends:
    """Modules and programs that workers have; the last report holds while no dispatcher leads."""

    def __init__(self, leases: EventStore, configured: frozenset[str], install_hint: str) -> None:
        """``configured`` is what the operator says that workers have besides; ``leases`` is the stream of leases."""
        self._leases = leases
        self._known = Backends(None, configured, install_hint)
        self._read_at_s = float("-inf")

    async def known(self) -> Backends:
        """Return what workers have, at most a second old."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._read_at_s >= _REFRESH_S:
            self._read_at_s = now_s
            reported = await self._read()
            if reported is not None:
                self._known = Backends(reported, self._known.configured, self._known.install_hint)
        return self._known

    async def _read(self) -> frozenset[str] | None:
        """Return what the leading dispatcher reports; None if none leads, or it reports nothing."""
        try:
            stored = await self._leases.load(DISPATCHER_LEASE, deadline_s=_DEADLINE_S)
        except SaccadeError:
            return None
        try:
            reported = json.loads(stored[-1].body)["backends"] if stored else None
        except (ValueError, KeyError, TypeError):
            return None
        return frozenset(map(str, reported)) if isinstance(reported, list) else None
