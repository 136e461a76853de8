"""The dispatcher handles every budget event."""

from __future__ import annotations

from contracts.asyncapi import event_types
from services.dispatcher.budgets.on_budget import ON_BUDGET


def test_every_budget_event_has_a_handler() -> None:
    assert set(ON_BUDGET) == {name for name in event_types() if name.startswith("budget.")}
