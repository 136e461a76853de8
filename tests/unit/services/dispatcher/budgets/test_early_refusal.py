"""A rule's job that the budget certainly does not allow is not submitted."""

from __future__ import annotations

import pytest

from contracts.budget import BudgetLimits
from contracts.errors import ErrorCode
from services.dispatcher.budgets.early_refusal import early_refusal
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from tests.harness.rules.rule_events import EPOCH


@pytest.mark.parametrize(
    ("limits", "amount_usd", "refused"),
    [
        (BudgetLimits(), 1000.0, False),
        (BudgetLimits(daily_usd=1.0), 1.0, False),
        (BudgetLimits(daily_usd=1.0), 1.01, True),
        (BudgetLimits(monthly_usd=0.0), 0.0, False),
        (BudgetLimits(monthly_usd=0.0), 0.01, True),
    ],
)
def test_a_job_beyond_the_budget_is_refused_and_nothing_is_reserved(
    limits: BudgetLimits, amount_usd: float, refused: bool
) -> None:
    budgets = TenantBudgets(limits, lambda: EPOCH)
    for _ in range(2):
        error = early_refusal(budgets, False, "acme", amount_usd)
        assert (error is not None and error.code is ErrorCode.BUDGET_EXCEEDED) == refused
        assert early_refusal(budgets, True, "acme", amount_usd) is None, "where workers cost nothing"
    assert budgets.accounts == {}
