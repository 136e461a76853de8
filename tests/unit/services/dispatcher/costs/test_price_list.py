"""Prices: the account's own over the dated table, nothing on the operator's own machine."""

from __future__ import annotations

import pytest

from contracts.errors import SaccadeError
from contracts.prices import price_usd_per_s
from services.dispatcher.costs.price_list import PriceList


def test_the_table_counts_until_the_account_tells_its_own() -> None:
    prices = PriceList("modal")
    assert prices.usd_per_s("T4") == price_usd_per_s("T4")
    prices.take({"T4": 0.0001})
    assert prices.usd_per_s("T4") == 0.0001
    assert prices.usd_per_s("A10") == price_usd_per_s("A10"), "what it does not tell is the table's"
    prices.take({})
    assert prices.usd_per_s("T4") == price_usd_per_s("T4")


def test_nothing_runs_unpriced() -> None:
    with pytest.raises(SaccadeError, match="no price"):
        PriceList("modal").usd_per_s("T5")


def test_ones_own_machine_costs_nothing_whatever_somebody_tells() -> None:
    prices = PriceList("local")
    prices.take({"cpu": 1.0})
    assert prices.usd_per_s("cpu") == 0.0
