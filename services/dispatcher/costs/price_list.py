"""What a second on each device costs here: as the account is billed where that is known, else by the dated table."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from services.dispatcher.costs import cost

log = logging.getLogger(__name__)


class PriceList:
    """Prices in USD a second. What was dispatched at a price stays at it: ``job.starting`` carries it."""

    def __init__(self, executor: str) -> None:
        """Begin with the table; workers of the local executor cost nothing."""
        self._executor = executor
        self._billed: dict[str, float] = {}

    def take(self, billed: Mapping[str, float]) -> None:
        """Put the account's own prices over the table's."""
        if billed != self._billed:
            log.info("prices of %d devices are the account's own", len(billed))
        self._billed = dict(billed)

    def usd_per_s(self, device: str) -> float:
        """Give the price of a device.

        Raises:
            SaccadeError: INTERNAL, for a device without a price.
        """
        if self._executor == cost.LOCAL:
            return cost.usd_per_s(cost.LOCAL, device)
        return self._billed[device] if device in self._billed else cost.usd_per_s(self._executor, device)
