"""Budget service: read, set and remove a tenant's budget; refuse requests that it certainly does not allow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from contracts.budget import Budget, BudgetLimits, Period, Refusal, Usage, fold_stored, periods_of, refusal
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import EventData, encode
from contracts.events.budget import BudgetRemoved, BudgetSet
from contracts.spending import Account
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from kit.bus.tail import EventTail
from services.gateway.aggregates.aggregate_events import SOURCE, VIEW_TIMEOUT_S
from services.gateway.aggregates.view import GatewayView
from services.gateway.backends.dispatcher_report import DispatcherReport

#: Attempts of a change that other writers interrupt: the dispatcher's notices, or another client.
_CONFLICT_RETRIES: Final = 20


@dataclass(frozen=True)
class BudgetStatus:
    """A tenant's budget, the operator's limits, and the use of both periods."""

    budget: Budget
    operator: BudgetLimits
    limits: BudgetLimits
    usage: dict[Period, Usage]


@dataclass(frozen=True)
class BudgetLeft:
    """Remainder of the budget with a job; None without a limit."""

    allowed: bool
    #: Amount that would be reserved for the job.
    reserved_usd: float
    day_remaining_usd: float | None
    month_remaining_usd: float | None


class BudgetService:
    """Operations on budgets. All are tenant-scoped."""

    def __init__(
        self, *, store: EventStore, view: GatewayView, tail: EventTail, report: DispatcherReport, workers_are_free: bool
    ) -> None:
        """Read from ``view``, write to the bus; nothing is refused where workers cost nothing."""
        self._store, self._view, self._tail, self._report = store, view, tail, report
        self._workers_are_free = workers_are_free

    async def status(self, tenant: str) -> BudgetStatus:
        """Return the budget and how it is used now, as the view has it."""
        now = datetime.now(UTC)
        budget, operator, account = self._view.budgets.get(tenant), await self._operator(), self._account(tenant)
        usage = {period: account.usage(period, now) for period in periods_of(now)}
        return BudgetStatus(budget, operator, budget.limits(operator), usage)

    async def set(self, tenant: str, wanted: BudgetSet) -> BudgetStatus:
        """Replace the budget; an equal one is not stored again.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        for _ in range(_CONFLICT_RETRIES):
            budget = await self._newest(tenant)
            if _same(budget.definition, wanted) or await self._append(budget, wanted):
                return await self.status(tenant)
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many other requests changed the budget at the same time.")

    async def remove(self, tenant: str, made_by: str | None) -> None:
        """Remove the budget.

        Raises:
            SaccadeError: BUDGET_NOT_FOUND; BUS_UNAVAILABLE.
        """
        for _ in range(_CONFLICT_RETRIES):
            budget = await self._newest(tenant)
            if budget.definition is None:
                raise SaccadeError(ErrorCode.BUDGET_NOT_FOUND)
            if await self._append(budget, BudgetRemoved(made_by=made_by)):
                return
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many other requests changed the budget at the same time.")

    async def check(self, tenant: str, max_cost_usd: float | None, estimated_usd: float) -> None:
        """Refuse a job that the dispatcher would refuse if it launched it now.

        Raises:
            SaccadeError: BUDGET_EXCEEDED.
        """
        _, refused = await self._decide(tenant, _asked(max_cost_usd, estimated_usd))
        if refused:
            raise refused.exception()

    async def left(self, tenant: str, max_cost_usd: float | None, estimated_usd: float) -> BudgetLeft | None:
        """Return what a job would leave of the budget; None without any limit, or where workers cost nothing."""
        asked_usd = _asked(max_cost_usd, estimated_usd)
        status, refused = await self._decide(tenant, asked_usd)
        if status is None:
            return None
        left: dict[str, float | None] = {}
        for period, usage in status.usage.items():
            limit = status.limits.of(period)
            left[period.kind] = None if limit is None else max(0.0, round(limit - usage.committed_usd - asked_usd, 6))
        return BudgetLeft(refused is None, asked_usd, left["day"], left["month"])

    async def _decide(self, tenant: str, asked_usd: float) -> tuple[BudgetStatus | None, Refusal | None]:
        if self._workers_are_free:
            return None, None
        status = await self.status(tenant)
        if not status.limits.exist:
            return None, None
        after_usd = {period: usage.committed_usd + asked_usd for period, usage in status.usage.items()}
        return status, refusal(status.limits, datetime.now(UTC), status.usage, asked_usd, after_usd)

    def _account(self, tenant: str) -> Account:
        return self._view.budgets.account(tenant)

    async def _operator(self) -> BudgetLimits:
        """Return the limits of every tenant, as the dispatcher that enforces them tells them."""
        reported = (await self._report.known()).get("budget")
        try:
            return BudgetLimits(**BudgetSet.model_validate(reported).model_dump(include=_LIMITS))
        except ValidationError:
            return BudgetLimits()

    async def _newest(self, tenant: str) -> Budget:
        budget: Budget | None = None
        for stored in await self._store.load(aggregate(tenant, "budget", tenant)):
            budget = fold_stored(budget, stored.subject, stored.body, stored.sequence)
        known = budget or Budget(tenant)
        await self._tail.wait_for(known.sequence, VIEW_TIMEOUT_S)
        viewed = self._view.budgets.get(tenant)  # it has folded what the stream has deleted, too
        return viewed if viewed.sequence >= known.sequence else known

    async def _append(self, budget: Budget, data: EventData) -> bool:
        """Store the next event of a budget; return False if another one came in between."""
        tenant = budget.tenant
        message = encode(data, tenant=tenant, subject_id=tenant, source=SOURCE)
        try:
            sequence = await self._store.publish(
                message,
                after=budget.sequence,
                among=aggregate(tenant, "budget", tenant),
                known_until=self._tail.last,
            )
        except Conflict:
            return False
        await self._tail.wait_for(sequence, VIEW_TIMEOUT_S)
        return True


#: Fields of a definition that limit something.
_LIMITS: Final = {"daily_usd", "monthly_usd", "warn_share"}


def _same(known: BudgetSet | None, wanted: BudgetSet) -> bool:
    return known is not None and known.model_dump(include=_LIMITS) == wanted.model_dump(include=_LIMITS)


def _asked(max_cost_usd: float | None, estimated_usd: float) -> float:
    return estimated_usd if max_cost_usd is None else max_cost_usd
