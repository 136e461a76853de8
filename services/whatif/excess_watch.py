"""Times since which running jobs are beyond their tenant's budget, which depends on all of its jobs."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from contracts.job import Job, State
from services.dispatcher.budgets.tenant_budgets import TenantBudgets

_INTERVAL: Final = timedelta(seconds=1)


class ExcessWatch:
    """Looks at the accounts while the record goes on."""

    def __init__(self, budgets: TenantBudgets, reaction_s: float) -> None:
        """Look ``reaction_s`` ahead, before which a job is stopped."""
        self._budgets = budgets
        self._reaction = timedelta(seconds=reaction_s)
        self._since: dict[str, datetime] = {}
        self._looked_at: dict[str, datetime] = {}

    def look(self, tenant: str, jobs: Iterable[Job], now: datetime) -> None:
        """Note which jobs of a tenant are beyond its budget now; at most once a second of the record."""
        before = self._looked_at.get(tenant)
        if (before and now - before < _INTERVAL) or not self._budgets.limits(tenant).exist:
            return
        self._looked_at[tenant] = now
        for job in jobs:
            if job.tenant != tenant or job.state is not State.RUNNING:
                continue
            if self._budgets.excess(job, now + self._reaction):
                self._since.setdefault(job.id, now)
            else:
                self._since.pop(job.id, None)

    def since(self, job_id: str) -> datetime | None:
        """Return since when a job has been beyond its tenant's budget without a break; None if it is not."""
        return self._since.get(job_id)
