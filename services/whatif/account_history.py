"""Accounts of tenants with a budget as a dispatcher may have seen them a moment before or after an event was stored."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from contracts.spending import SPENDING_EVENTS, Account
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.whatif.window import RecordedEvent

#: Time within which an event was perhaps not folded yet, or a start was reserved for already.
RACE_S: Final = 1.0


class AccountHistory:
    """The accounts of the last second."""

    def __init__(self, budgets: TenantBudgets) -> None:
        """Look at the accounts as they are folded."""
        self._budgets = budgets
        self._last: dict[str, deque[tuple[datetime, Account]]] = {}

    def before(self, event: RecordedEvent) -> None:
        """Keep the account of an event's tenant, which is about to change."""
        tenant = event.envelope.tenant
        account = self._budgets.accounts.get(tenant)
        if event.envelope.type not in SPENDING_EVENTS or account is None or not self._budgets.limits(tenant).exist:
            return
        kept = self._last.setdefault(tenant, deque())
        while kept and event.at - kept[0][0] > timedelta(seconds=RACE_S):
            kept.popleft()
        kept.append((event.at, copy.deepcopy(account)))

    def variants(self, event: RecordedEvent, following: Iterable[RecordedEvent]) -> Iterator[None]:
        """Show one variant after the other as the tenant's account, and in the end the true one again.

        ``following`` are the events after it, in order.
        """
        tenant = event.envelope.tenant
        true = self._budgets.accounts.get(tenant)
        if true is None:
            return
        try:
            for at, account in reversed(self._last.get(tenant, ())):
                if event.at - at <= timedelta(seconds=RACE_S):
                    self._budgets.accounts[tenant] = copy.deepcopy(account)
                    yield
            reserved = copy.deepcopy(true)
            for later in following:
                if later.at - event.at > timedelta(seconds=RACE_S):
                    break
                if later.envelope.tenant == tenant and later.envelope.type == "job.starting":
                    reserved.fold(later.envelope)
                    self._budgets.accounts[tenant] = copy.deepcopy(reserved)
                    yield
        finally:
            self._budgets.accounts[tenant] = true
