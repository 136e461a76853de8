"""Budget for asyncio programs: what workers may cost in a day and in a month."""

from __future__ import annotations

from datetime import date

from saccade_client.api import Api, parsed
from saccade_client.budget_views import BudgetView, SpendingReport
from saccade_client.request_parts import BUDGETS_PATH, SPEND_PATH, without_none


class AsyncBudgetsClient:
    """The tenant's budget: ``client.budgets``."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
        self._api = api

    async def get(self) -> BudgetView:
        """Read the limits and what is spent, reserved and left in the present day and month (UTC)."""
        return await self._api.get(BudgetView, BUDGETS_PATH)

    async def set(
        self, *, daily_usd: float | None = None, monthly_usd: float | None = None, warn_share: float | None = None
    ) -> BudgetView:
        """Replace the whole budget; a limit that is left out does not hold any more."""
        body = without_none({"daily_usd": daily_usd, "monthly_usd": monthly_usd, "warn_share": warn_share})
        return parsed(BudgetView, await self._api.call("PUT", BUDGETS_PATH, json=body))

    async def remove(self) -> None:
        """Remove the budget; the operator's limits still hold."""
        await self._api.call("DELETE", BUDGETS_PATH)

    async def spent(
        self, *, since: date | None = None, until: date | None = None, tenant: str | None = None
    ) -> SpendingReport:
        """Read what attempts have cost by day (UTC), workload and device, by default in the last 31 days.

        ``tenant`` is for operators, who otherwise get the rows of all tenants.
        """
        query = without_none({"since": since and str(since), "until": until and str(until), "tenant": tenant})
        return await self._api.get(SpendingReport, SPEND_PATH, params=query)
