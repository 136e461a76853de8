"""Publishes that a budget is nearly or entirely used, once for each period and limit; repeats old definitions.

The fold of the budget's events says what was published; until a notice has been folded, its id, which follows from the
period and the limit, keeps the stream from storing it twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import date
from typing import Final

from contracts.budget import Budget, Notice, Period, Refusal, Usage, notices, periods_of, renewal
from contracts.errors import SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.budget import BudgetExhausted, BudgetWarned, PeriodKind
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from services.dispatcher.budgets.tenant_budgets import TenantBudgets
from services.dispatcher.jobs.job_repository import SOURCE, NotLeading

log = logging.getLogger(__name__)

_CHECK_S: Final = 1.0
_RENEW_S: Final = 3600.0


class BudgetNotices:
    """Notices of all tenants' budgets, while this dispatcher leads."""

    def __init__(
        self,
        store: EventStore,
        budgets: TenantBudgets,
        may_act: Callable[[], bool],
        known_until: Callable[[], int] = lambda: 0,
    ) -> None:
        """Publish only while ``may_act()`` is true; every event up to ``known_until()`` is folded into ``budgets``."""
        self._store, self._known_until = store, known_until
        self.budgets = budgets
        self._may_act = may_act
        #: Notices that were published and may not be folded yet, by tenant.
        self._published: set[tuple[str, Notice]] = set()

    async def run(self) -> None:
        """Publish what is due until cancelled."""
        self._published.clear()
        self.budgets.changed |= self.budgets.budgets.keys() | self.budgets.accounts.keys()
        loop = asyncio.get_running_loop()
        renew_at_s = loop.time()
        while True:
            try:
                if loop.time() >= renew_at_s:
                    await self._renew()
                    renew_at_s = loop.time() + _RENEW_S
                await self._check()
            except (SaccadeError, NotLeading) as error:
                log.warning("notices of budgets wait: %s", error)
            await asyncio.sleep(_CHECK_S)

    async def refused(self, tenant: str, refused: Refusal, job_id: str) -> None:
        """Publish that a limit is exhausted, because of which a job is about to be refused or stopped.

        Nothing is published for a job that only costs more than what is left: its own error says so. The notice is
        published once per period and limit, and must not be used up before the limit is reached.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE.
        """
        if not refused.exhausted:
            return
        period = refused.period
        notice = (BudgetExhausted.type, period.kind, period.began, refused.limit_usd)
        await self._publish(tenant, notice, refused.usage, job_id)

    async def _check(self) -> None:
        """Publish the notices that are due of tenants whose usage has changed, or changes with time."""
        budgets, now = self.budgets, self.budgets.clock()
        changed, budgets.changed = budgets.changed, set()
        try:
            for tenant in changed | {name for name, account in budgets.accounts.items() if account.attempts}:
                account, limits = budgets.accounts.get(tenant), budgets.limits(tenant)
                if account is None or not limits.exist:
                    continue
                used = {period: account.usage(period, now) for period in periods_of(now)}
                budget = budgets.budgets.get(tenant) or Budget(tenant)
                for notice in notices(budget, limits, now, used.__getitem__):
                    await self._publish(tenant, notice, used[Period(notice[1], notice[2])])
        except BaseException:
            budgets.changed |= changed
            raise

    async def _publish(self, tenant: str, notice: Notice, usage: Usage, job_id: str | None = None) -> None:
        budget = self.budgets.budgets.get(tenant)
        if (tenant, notice) in self._published or (budget and notice in budget.notices):
            return
        event_type, kind, began, limit_usd = notice
        self._published.add((tenant, notice))
        try:
            share = self.budgets.limits(tenant).warn_share
            data = _event(event_type, kind, began, limit_usd, warn_share=share, usage=usage, job_id=job_id)
            await self._store_event(tenant, data, f"{tenant}.{event_type}.{kind}.{began}.{limit_usd}")
        except BaseException:
            self._published.discard((tenant, notice))
            raise
        log.info("%s of %s: %g of %g USD are spent this %s", event_type, tenant, usage.spent_usd, limit_usd, kind)

    async def _renew(self) -> None:
        """Publish definitions again that the stream would delete by age."""
        for tenant, budget in list(self.budgets.budgets.items()):
            data = renewal(budget, self.budgets.clock())
            if data is None:
                continue
            try:
                event_id = f"{tenant}.budget.renewed.{budget.sequence}"
                await self._store_event(tenant, data, event_id, after=budget.sequence)
            except Conflict:
                continue  # it has just been changed

    async def _store_event(self, tenant: str, data: EventData, event_id: str, after: int | None = None) -> None:
        if not self._may_act():
            raise NotLeading
        message = encode(
            data, tenant=tenant, subject_id=tenant, source=SOURCE, event_id=event_id, time=self.budgets.clock()
        )
        among, known = aggregate(tenant, "budget", tenant), self._known_until()
        await self._store.publish(message, after=after, among=among, known_until=known)


def _event(
    event_type: str,
    kind: PeriodKind,
    began: date,
    limit_usd: float,
    *,
    warn_share: float,
    usage: Usage,
    job_id: str | None,
) -> BudgetWarned | BudgetExhausted:
    spent, reserved = round(usage.spent_usd, 6), round(usage.reserved_usd, 6)
    if event_type == BudgetWarned.type:
        return BudgetWarned(
            period=kind,
            began=began,
            limit_usd=limit_usd,
            warn_share=warn_share,
            spent_usd=spent,
            reserved_usd=reserved,
        )
    return BudgetExhausted(
        period=kind, began=began, limit_usd=limit_usd, spent_usd=spent, reserved_usd=reserved, job_id=job_id
    )
