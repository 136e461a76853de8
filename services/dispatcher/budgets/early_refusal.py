"""Refusal of a job before it is submitted, where the budget certainly does not allow it now."""

from __future__ import annotations

from contracts.budget import periods_of, refusal
from contracts.errors import SaccadeError
from contracts.spending import Account
from services.dispatcher.budgets.tenant_budgets import TenantBudgets


def early_refusal(
    budgets: TenantBudgets, workers_are_free: bool, tenant: str, amount_usd: float
) -> SaccadeError | None:  # fmt: skip
    """Return why a job that costs this much would not be launched now; None if it would. Nothing is reserved."""
    limits, now = budgets.limits(tenant), budgets.clock()
    if workers_are_free or not limits.exist:
        return None
    account = budgets.accounts.get(tenant) or Account()
    before = {period: account.usage(period, now) for period in periods_of(now)}
    after_usd = {period: usage.committed_usd + amount_usd for period, usage in before.items()}
    refused = refusal(limits, now, before, amount_usd, after_usd)
    return refused.exception() if refused else None
