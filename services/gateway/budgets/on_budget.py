"""Projection of budget events into the view."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.budget import fold
from contracts.events import Envelope
from contracts.events import budget as events
from services.gateway.aggregates.view import GatewayView


class BudgetProjector:
    """Applies each budget event to the view."""

    def __init__(self, view: GatewayView) -> None:
        """Write to ``view``."""
        self.view = view

    def handle(self, envelope: Envelope, sequence: int) -> None:
        """Apply one event; event types unknown to this version are ignored."""
        if handler := HANDLERS.get(envelope.type):
            handler(self, envelope, sequence)


Handler = Callable[[BudgetProjector, Envelope, int], None]


def changed(projector: BudgetProjector, envelope: Envelope, sequence: int) -> None:
    """Fold the event into the budget."""
    rows = projector.view.budgets
    rows.keep(fold(rows.get(envelope.tenant), envelope, sequence))


#: Every budget event (tests/unit/services/gateway/budgets/test_on_budget.py).
HANDLERS: Final[Mapping[str, Handler]] = {
    events.BudgetSet.type: changed,
    events.BudgetRemoved.type: changed,
    events.BudgetWarned.type: changed,
    events.BudgetExhausted.type: changed,
}
