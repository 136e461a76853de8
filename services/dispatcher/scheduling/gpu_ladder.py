"""The ladder of devices: on which rung a job's next attempt begins, and when the next one is worth trying. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contracts.job import Job
from services.dispatcher.costs import cost
from services.dispatcher.costs.price_list import PriceList


@dataclass(frozen=True)
class Rung:
    """One device of a ladder and what a second on it costs."""

    number: int
    device: str
    usd_per_s: float


def rung_of(prices: PriceList, devices: Sequence[str], number: int) -> Rung:
    """Give a rung; the last one for a number beyond it, should the ladder have become shorter.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    number = min(number, len(devices) - 1)
    return Rung(number, devices[number], prices.usd_per_s(devices[number]))


def following(job: Job, prices: PriceList, devices: Sequence[str]) -> Rung | None:
    """Give the next rung of a job, whatever it costs; None on the last.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    return rung_of(prices, devices, job.rung + 1) if job.rung + 1 < len(devices) else None


def above(job: Job, prices: PriceList, devices: Sequence[str]) -> Rung | None:
    """Give the next rung of a job; None on the last, and where the job may not cost as much.

    Raises:
        SaccadeError: INTERNAL, for a device without a price.
    """
    rung = following(job, prices, devices)
    return rung if rung and cost.is_affordable(job, rung.usd_per_s) else None
