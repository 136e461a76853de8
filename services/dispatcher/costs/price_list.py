"""Prices of devices and of the rungs of a GPU ladder: the account's own where known, else the dated table."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.job import Job
from services.dispatcher.costs import attempt_cost

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuRung:
    """One device of a ladder and its price. contracts/gpu_ladder.py selects the devices of a workload."""

    number: int
    device: str
    usd_per_s: float


class PriceList:
    """Prices in USD per second. A dispatched attempt keeps its price: ``job.starting`` carries it."""

    def __init__(self, executor: str) -> None:
        """Start with the dated table; workers of the local executor cost nothing."""
        self._executor = executor
        self._account_prices: dict[str, float] = {}

    def update(self, account_prices: Mapping[str, float]) -> None:
        """Replace the account's own prices, which take precedence over the table."""
        if account_prices != self._account_prices:
            log.info("using the account's own prices for %d devices", len(account_prices))
        self._account_prices = dict(account_prices)

    def usd_per_s(self, device: str) -> float:
        """Return the price of a device.

        Raises:
            SaccadeError: INTERNAL, for a device without a price.
        """
        if self._executor != attempt_cost.LOCAL and device in self._account_prices:
            return self._account_prices[device]
        return attempt_cost.usd_per_s(self._executor, device)

    def rung(self, devices: Sequence[str], number: int) -> GpuRung:
        """Return a rung of a ladder; the last one if the ladder has become shorter than ``number``.

        Raises:
            SaccadeError: INTERNAL, for a device without a price.
        """
        number = min(number, len(devices) - 1)
        return GpuRung(number, devices[number], self.usd_per_s(devices[number]))

    def next_rung(self, job: Job, devices: Sequence[str]) -> GpuRung | None:
        """Return the rung after the job's current one, regardless of its price; None on the last.

        Raises:
            SaccadeError: INTERNAL, for a device without a price.
        """
        return self.rung(devices, job.rung + 1) if job.rung + 1 < len(devices) else None

    def next_affordable_rung(self, job: Job, devices: Sequence[str]) -> GpuRung | None:
        """Return the rung after the job's current one; None on the last, or when the job's cap does not allow it.

        Raises:
            SaccadeError: INTERNAL, for a device without a price.
        """
        rung = self.next_rung(job, devices)
        return rung if rung and attempt_cost.is_affordable(job, rung.usd_per_s) else None
