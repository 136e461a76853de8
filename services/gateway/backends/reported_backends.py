"""Modules and programs of the workers, as the dispatcher that leads reports them."""

from __future__ import annotations

from modal_workers.backends import Backends
from services.gateway.backends.dispatcher_report import DispatcherReport


class ReportedBackends:
    """Modules and programs that workers have; the last report holds while no dispatcher leads."""

    def __init__(self, report: DispatcherReport, configured: frozenset[str], install_hint: str) -> None:
        """``configured`` is what the operator says that workers have besides."""
        self._report = report
        self._known = Backends(None, configured, install_hint)

    async def known(self) -> Backends:
        """Return what workers have, at most a second old."""
        reported = (await self._report.known()).get("backends")
        if isinstance(reported, list):
            self._known = Backends(
                frozenset(map(str, reported)), self._known.configured, self._known.install_hint
            )  # fmt: skip
        return self._known
