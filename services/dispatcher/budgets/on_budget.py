"""Handlers that the fold calls for each budget event (``ON_BUDGET`` lists all types)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from contracts.events import budget as events
from contracts.events.base import Envelope, decode_at
from kit.bus.event_store import StoredEvent
from services.dispatcher.budgets.tenant_budgets import TenantBudgets

Handler = Callable[[TenantBudgets, Envelope, int], None]


def changed(budgets: TenantBudgets, envelope: Envelope, sequence: int) -> None:
    """Fold the event: limits hold from now on, and a notice is not published again."""
    budgets.on_budget(envelope, sequence)


ON_BUDGET: Final[Mapping[str, Handler]] = {
    events.BudgetSet.type: changed,
    events.BudgetRemoved.type: changed,
    events.BudgetWarned.type: changed,
    events.BudgetExhausted.type: changed,
}


def on_stored(budgets: TenantBudgets, stored: StoredEvent, job_event: Envelope | None) -> None:
    """Fold a durable event into accounts and budgets; ``job_event`` is the decoded event of a job."""
    if job_event is not None:
        budgets.on_job(job_event, stored)
        return
    parts = stored.subject.split(".", 4)
    if len(parts) != 5 or parts[3] != "budget":
        return
    envelope = decode_at(stored.subject, stored.body)
    if handler := ON_BUDGET.get(envelope.type):
        handler(budgets, envelope, stored.sequence)
