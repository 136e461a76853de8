"""Prices of Modal's billing under our device names."""

from __future__ import annotations

from decimal import Decimal

import pytest

from contracts.prices import PRICES, price_usd_per_s
from services.dispatcher.executors.modal_rates import RATE_KEYS, usd_per_s

#: Rates that a workspace has published: ``modal billing rates --json`` of 2026-08-15.
PUBLISHED = {
    "cpu_hour_cost": Decimal("0.04730"),
    "cpu_hour_cost_sandbox": Decimal("0.141900"),
    "gpu_hour_cost_a100_40gb": Decimal("2.10000"),
    "gpu_hour_cost_a100_80gb": Decimal("2.50000"),
    "gpu_hour_cost_a10g": Decimal("1.10000"),
    "gpu_hour_cost_b200": Decimal("6.25000"),
    "gpu_hour_cost_b300": Decimal("7.10000"),
    "gpu_hour_cost_h100": Decimal("3.95000"),
    "gpu_hour_cost_h200": Decimal("4.54000"),
    "gpu_hour_cost_l4": Decimal("0.80000"),
    "gpu_hour_cost_l40s": Decimal("1.95000"),
    "gpu_hour_cost_rtx6000": Decimal("3.03000"),
    "gpu_hour_cost_t4": Decimal("0.59000"),
    "mem_gib_hour_cost": Decimal("0.00800"),
}


def test_every_device_of_the_table_has_its_price_by_the_second() -> None:
    assert set(RATE_KEYS) == set(PRICES) - {"local"}
    for device, price in usd_per_s(PUBLISHED).items():
        assert price == pytest.approx(price_usd_per_s(device), rel=0.005), device


def test_an_invalid_price_is_left_out() -> None:
    rates = {"gpu_hour_cost_t4": "0.59", "gpu_hour_cost_l4": "-1", "gpu_hour_cost_h100": "NaN", "cpu_hour_cost": "soon"}
    assert usd_per_s(rates) == {"T4": pytest.approx(0.59 / 3600)}
