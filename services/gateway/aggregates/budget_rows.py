"""Rows of the view about budgets: definitions, and accounts of what was spent and reserved."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import TypeAdapter

from contracts.budget import Budget
from contracts.events.base import Envelope
from contracts.spending import SPENDING_EVENTS, Account
from kit.projection_file import ProjectionFile
from services.gateway.aggregates.kept_rows import KeptRows, decode_row

_BUDGET: Final = TypeAdapter(Budget)
_ACCOUNT: Final = TypeAdapter(Account)


class BudgetRows:
    """Budgets and accounts of all tenants. Calls are short and made in the event loop."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read and write the view's file."""
        self._file = file
        self._accounts = KeptRows(file, "accounts", _ACCOUNT, lambda _: ())

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

    def count_spending(self, envelope: Envelope, stored_at: datetime | None) -> None:
        """Apply a job event, and when the server stored it, to the account of its tenant."""
        if envelope.type in SPENDING_EVENTS:
            account = self.account(envelope.tenant)
            if account.fold(envelope, stored_at):
                self.keep_account(envelope.tenant, account)

    def clear(self) -> None:
        """Forget what is kept in memory, because rows were deleted."""
        self._accounts.clear()
