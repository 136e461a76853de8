"""Orders of operators that jobs wait for, from the report of the dispatcher that leads."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from services.gateway.backends.dispatcher_report import DispatcherReport

#: Interval between two reads.
_REFRESH_S: Final = 2.0


class ReportedHolds:
    """Orders that the dispatcher follows; the last report holds while none leads."""

    def __init__(self, report: DispatcherReport) -> None:
        """Read ``report``."""
        self._report = report
        self._drained: str | None = None
        self._paused: dict[str, str] = {}

    async def run(self) -> None:
        """Read the report again and again until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(_REFRESH_S)

    async def refresh(self) -> None:
        """Read the report; nothing changes if there is none."""
        try:
            holds: dict[str, Any] = (await self._report.known())["holds"]
            drained, paused = holds["drained"], holds["paused"]
            self._drained = str(drained["why"]) if drained else None
            self._paused = {str(name): str(hold["why"]) for name, hold in paused.items()}
        except (KeyError, TypeError, AttributeError):
            return

    def reason(self, workload: str) -> str | None:
        """Return for a user why jobs of a workload are not started; None if they are."""
        if self._drained is not None:
            return f"Waiting: the operator starts no jobs at the moment ({self._drained})."
        if (why := self._paused.get(workload)) is not None:
            return f"Waiting: the operator has paused {workload} ({why})."
        return None
