"""Prices of devices from the rates of Modal's billing API. Does not import ``modal``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_HOUR_S: Final = 3600.0
#: Keys of ``modal billing rates --json``, in USD per hour of one GPU or one physical core. Modal does not document
#: them; users have published these (2026-08-15, 2026-09-20), and tests/system/test_modal_account.py checks them.
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
    """Return the price of one second on each device in the rates, in USD; invalid values are left out."""
    prices = {}
    for device, key in RATE_KEYS.items():
        try:
            usd_per_hour = float(str(rates[key]))
        except (KeyError, ValueError):
            continue
        if math.isfinite(usd_per_hour) and usd_per_hour > 0:
            prices[device] = usd_per_hour / _HOUR_S
    return prices
