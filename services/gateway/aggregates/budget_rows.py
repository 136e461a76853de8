"""Rows of the view about budgets: definitions, and accounts of what was spent and reserved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Final

from pydantic import TypeAdapter

from contracts.budget import Budget
from contracts.events.base import Envelope, EventData
from contracts.events.job import JobInterrupted, JobSucceeded
from contracts.job import Job
from contracts.spending import SPENDING_EVENTS, Account
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.kept_rows import KeptRows, decode_row
from services.gateway.aggregates.spending_rows import SpendingRows

_BUDGET: Final = TypeAdapter(Budget)
_ACCOUNT: Final = TypeAdapter(Account)
#: Day and amount of a settled attempt.
Settled = tuple[date, float]


class BudgetRows:
    """Budgets and accounts of all tenants. Calls are short and made in the event loop."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read and write the view's file."""
        self._file = file
        self._accounts = KeptRows(file, "accounts", _ACCOUNT, lambda _: ())
        self.spending = SpendingRows(file)

    def get(self, tenant: str) -> Budget:
        """Return the budget of a tenant; without events, one that limits nothing."""
        row = self._file.row("SELECT body FROM budgets WHERE tenant = ?", (tenant,))
        return decode_row(self._file, _BUDGET, row[0]) if row else Budget(tenant)

    def keep(self, budget: Budget) -> None:
        """Insert or replace a budget."""
        self._file.write("INSERT OR REPLACE INTO budgets VALUES (?, ?)", (budget.tenant, _BUDGET.dump_json(budget)))

    def account(self, tenant: str) -> Account:
        """Return the account of a tenant; who changes it keeps it."""
        return self._accounts.get(tenant) or Account()

    def keep_account(self, tenant: str, account: Account) -> None:
        """Insert or replace an account."""
        self._accounts.keep(tenant, account)

    def count_spending(
        self, envelope: Envelope, stored_at: datetime | None, job_of: Callable[[str], Job | None]
    ) -> None:
        """Apply an event of a job, and when the server stored it, to the account and spending of its tenant."""
        if envelope.type not in SPENDING_EVENTS:
            return
        account = self.account(envelope.tenant)
        attempt = account.attempts.get(envelope.subject)
        before = attempt.settled if attempt else None
        if not account.fold(envelope, stored_at):
            return
        self.keep_account(envelope.tenant, account)
        if attempt and attempt.settled and (job := job_of(envelope.subject)):
            self._count_settled(job, envelope.parsed(), before, attempt.settled)

    def _count_settled(self, job: Job, data: EventData, before: Settled | None, now: Settled) -> None:
        cost = data.cost if isinstance(data, JobInterrupted | JobSucceeded) else None
        if cost is None or before == now:
            return
        if before is None:
            estimated_usd = job.submitted.estimated_usd if isinstance(data, JobSucceeded) else 0.0
            self.spending.settle(job.tenant, job.submitted.workload, now[0], cost, estimated_usd)
            return
        of_attempt = (job.tenant, job.submitted.workload, cost.device)
        self.spending.correct(*of_attempt, day=before[0], change_usd=-before[1])
        self.spending.correct(*of_attempt, day=now[0], change_usd=now[1])

    def clear(self) -> None:
        """Forget what is kept in memory, because rows were deleted."""
        self._accounts.clear()
