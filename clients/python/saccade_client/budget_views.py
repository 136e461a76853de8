"""Budgets and spending as the API shows them."""

from __future__ import annotations

from pydantic import Field

from saccade_client.history_views import Shown


class BudgetPeriod(Shown):
    """Use of the budget in the present day or month (UTC); ``remaining_usd`` is None without a limit."""

    limit_usd: float | None = None
    spent_usd: float = 0.0
    reserved_usd: float = 0.0
    remaining_usd: float | None = None
    began_at: str
    ends_at: str


class BudgetView(Shown):
    """The tenant's budget and its use; limits are None where none is set."""

    daily_usd: float | None = None
    monthly_usd: float | None = None
    warn_share: float = 0.8
    set_at: str | None = None
    made_by: str | None = None
    #: Limits of every tenant: ``daily_usd``, ``monthly_usd``.
    operator: dict[str, float | None] = Field(default_factory=dict)
    day: BudgetPeriod
    month: BudgetPeriod


class SpendingView(Shown):
    """Attempts of one workload on one device that ended on one day (UTC)."""

    tenant: str
    day: str
    workload: str
    device: str
    attempts: int
    seconds: float
    usd: float
    #: Sum of the estimates of the jobs that succeeded.
    estimated_usd: float


class SpendingReport(Shown):
    """Spending of a period, newest day first."""

    since: str
    until: str
    data: list[SpendingView]
    usd: float
