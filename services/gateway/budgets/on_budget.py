"""Projection of budget events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.budget import fold
from contracts.events import Envelope
from contracts.events import budget as events
from services.gateway.aggregates.view import GatewayView

Handler = Callable[[GatewayView, Envelope, int], None]


def changed(view: GatewayView, envelope: Envelope, sequence: int) -> None:
    """Fold the event into the budget."""
    rows = view.budgets
    rows.keep(fold(rows.get(envelope.tenant), envelope, sequence))


#: Every budget event (tests/unit/services/gateway/budgets/test_on_budget.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.BudgetSet.type: changed,
    events.BudgetRemoved.type: changed,
    events.BudgetWarned.type: changed,
    events.BudgetExhausted.type: changed,
}
