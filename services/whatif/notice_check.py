"""Check of the warnings of budgets: each is due when it was published, and none that was due is missing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from contracts.budget import Budget, Notice, Period, notices, periods_of
from contracts.events.budget import BudgetExhausted, BudgetWarned
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.whatif.dispatcher_presence import DispatcherPresence
from services.whatif.finding import Finding
from services.whatif.window import RecordedEvent

_NOTICES = frozenset({BudgetWarned.type, BudgetExhausted.type})


class NoticeCheck:
    """Notices that are due by today's rules."""

    def __init__(self, budgets: TenantBudgets) -> None:
        """Look at the accounts and budgets as they are folded."""
        self._budgets = budgets
        #: Since when a notice is due that is not published.
        self._due: dict[tuple[str, Notice], datetime] = {}

    def before(self, event: RecordedEvent, presence: DispatcherPresence) -> list[Finding]:
        """Compare what is due with what is published by the next event, which is not folded yet."""
        tenant = event.envelope.tenant
        limits = self._budgets.limits(tenant)
        account = self._budgets.accounts.get(tenant)
        due: list[Notice] = []
        if account and limits.exist:
            used: Callable[[Period], object] = lambda period: account.usage(period, event.at)  # noqa: E731
            budget = self._budgets.budgets.get(tenant) or Budget(tenant)
            due = notices(budget, limits, event.at, used)  # type: ignore[arg-type]
        found = self._published(event, due) if event.envelope.type in _NOTICES and event.by_dispatcher else []
        kept = {(tenant, notice): self._due.get((tenant, notice), event.at) for notice in due}
        for key in [key for key in self._due if key[0] == tenant and key not in kept]:
            del self._due[key]
        self._due |= kept
        for (of, notice), since in list(self._due.items()):
            if of == tenant and presence.was_there(since, event.at) and notice[:3] != _notice_of(event)[:3]:
                today = f"{notice[0]} of the {notice[1]}'s {notice[3]:g} USD at {since:%Y-%m-%dT%H:%M:%SZ}"
                found.append(Finding("different", event.sequence, since, of, of, "no notice", today, of_others=True))
                self._due[of, notice] = datetime.max.replace(tzinfo=event.at.tzinfo)
        return found

    def _published(self, event: RecordedEvent, due: list[Notice]) -> list[Finding]:
        recorded = _notice_of(event)
        refused = event.envelope.data.get("job_id") is not None  # published because a job was refused
        if (
            recorded in due
            or refused
            or recorded[1:3] not in [(each.kind, each.began) for each in periods_of(event.at)]
        ):
            return []
        told = f"no {recorded[0]} of the {recorded[1]}'s {recorded[3]:g} USD yet"
        envelope = event.envelope
        what = (envelope.tenant, envelope.subject, envelope.type, told)
        return [Finding("different", event.sequence, event.at, *what, of_others=True)]


def _notice_of(event: RecordedEvent) -> Notice:
    if event.envelope.type not in _NOTICES:
        return ("", "day", event.at.date(), 0.0)
    data = event.envelope.parsed()
    assert isinstance(data, BudgetWarned | BudgetExhausted)
    return (data.type, data.period, data.began, data.limit_usd)
