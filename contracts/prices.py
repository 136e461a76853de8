"""Dated price table of devices per second; estimates, costs and caps all use it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from contracts.errors import ErrorCode, SaccadeError


@dataclass(frozen=True)
class Price:
    """Price of one device, with date and source."""

    usd_per_s: float
    read_on: date
    source: str
    #: False for a price from a single weak source or from memory: shown, but unreliable.
    confirmed: bool = True


_OWN: Final = "the operator's own machine, nothing is billed"
_HOURLY: Final = "hourly prices quoted from modal.com/pricing by techbytes.app and blaxel.ai, divided by 3600"
_CORE: Final = "modal.com/pricing as quoted by finops.apis.io and beam.cloud: one physical core"
_WEAK: Final = "about 1.10 USD an hour, one secondary source"
_MEMORY: Final = "no source found; from memory"

_READ: Final = date(2026, 7, 31)

#: Modal's prices in USD per second of one GPU; ``local`` is a worker on the operator's machine.
PRICES: Final[dict[str, Price]] = {
    "local": Price(0.0, _READ, _OWN),
    "cpu": Price(0.0000131, _READ, _CORE),
    "T4": Price(0.000164, _READ, _HOURLY),
    "L4": Price(0.000222, _READ, _HOURLY),
    "A10": Price(0.000306, _READ, _WEAK, confirmed=False),
    "L40S": Price(0.000542, _READ, _HOURLY),
    "A100-40GB": Price(0.000583, _READ, _MEMORY, confirmed=False),
    "A100-80GB": Price(0.000694, _READ, _HOURLY),
    "H100": Price(0.001097, _READ, _HOURLY),
    "H200": Price(0.001261, _READ, _MEMORY, confirmed=False),
    "B200": Price(0.001736, _READ, _HOURLY),
}

#: Alternative names of devices.
ALIASES: Final = {"A10G": "A10", "A100": "A100-40GB", "H100!": "H100", "B200+": "B200"}


def price_usd_per_s(device: str) -> float:
    """Return the price of one second on a device, in USD.

    Raises:
        SaccadeError: INTERNAL, when the table has no such device: nothing may run without a price.
    """
    price = PRICES.get(ALIASES.get(device, device))
    if price is None:
        known = ", ".join(PRICES)
        raise SaccadeError(
            ErrorCode.INTERNAL,
            f"There is no price for device {device!r}.",
            hint=f"Add it to contracts/prices.py; known devices: {known}.",
        )
    return price.usd_per_s
