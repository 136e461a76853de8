"""What Modal's billing says a device costs, under our names. Names only, no ``modal``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_HOUR_S: Final = 3600.0
#: Keys of ``modal billing rates --json``, in USD an hour of one GPU or of one physical core. Modal documents none;
#: these users have published of theirs (2026-08-15, 2026-09-20); tests/system/test_modal_account.py asks Modal.
RATE_KEYS: Final[dict[str, str]] = {
    "cpu": "cpu_hour_cost",
    "T4": "gpu_hour_cost_t4",
    "L4": "gpu_hour_cost_l4",
    "A10": "gpu_hour_cost_a10g",
    "L40S": "gpu_hour_cost_l40s",
    "A100-40GB": "gpu_hour_cost_a100_40gb",
    "A100-80GB": "gpu_hour_cost_a100_80gb",
    "H100": "gpu_hour_cost_h100",
    "H200": "gpu_hour_cost_h200",
    "B200": "gpu_hour_cost_b200",
}


def usd_per_s(rates: Mapping[str, object]) -> dict[str, float]:
    """Give the price of one second on each device that the rates tell of, in USD; a figure that is none is left out."""
    prices = {}
    for device, key in RATE_KEYS.items():
        try:
            usd_per_hour = float(str(rates[key]))
        except (KeyError, ValueError):
            continue
        if math.isfinite(usd_per_hour) and usd_per_hour > 0:
            prices[device] = usd_per_hour / _HOUR_S
    return prices
