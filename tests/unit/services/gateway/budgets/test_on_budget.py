"""The gateway handles every budget event."""

from __future__ import annotations

from contracts.asyncapi import event_types
from services.gateway.budgets.on_budget import HANDLERS


def test_every_budget_event_has_a_handler() -> None:
    assert set(HANDLERS) == {name for name in event_types() if name.startswith("budget.")}
