"""Routes of the tenant's budget: read, set, remove."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter

from contracts.budget import Period, Usage
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.budget import BudgetSet
from kit.auth.principal import MadeBy, Reader, Writer
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.budgets.schemas import BudgetObject, NewBudget, OperatorBudget, PeriodObject
from services.gateway.budgets.service import BudgetService, BudgetStatus

router = APIRouter(prefix="/v1/budgets", tags=["budgets"])

BudgetServiceDep = Annotated[BudgetService, from_app_state("budgets")]


@router.get("", summary="Read the budget and its use")
async def read_budget(caller: Reader, budgets: BudgetServiceDep) -> BudgetObject:
    """Return the limits and what is spent, reserved and left in the present day and month (UTC)."""
    return _shown(await budgets.status(caller.tenant))


@router.put("", summary="Set the budget", responses=problem_responses(ErrorCode.INVALID_PARAMETER))
async def set_budget(caller: Writer, body: NewBudget, budgets: BudgetServiceDep, made_by: MadeBy) -> BudgetObject:
    """Replace the whole budget; it holds for every attempt that is launched from now on.

    A job is refused with `budget_exceeded` before anything is launched, if what is spent and reserved and what it may
    cost itself (`max_cost_usd`, else the estimate) exceed a limit together. A running job is stopped only if it costs
    more than was reserved for it and the limit is reached. Repeating the request changes nothing.
    """
    if body.daily_usd is None and body.monthly_usd is None:
        message = "A budget needs daily_usd or monthly_usd."
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            message,
            hint="DELETE /v1/budgets removes the budget.",
            errors=[{"detail": message, "pointer": "#/daily_usd"}],
        )
    return _shown(await budgets.set(caller.tenant, BudgetSet(**body.model_dump(), made_by=made_by)))


@router.delete(
    "", status_code=204, summary="Remove the budget", responses=problem_responses(ErrorCode.BUDGET_NOT_FOUND)
)
async def remove_budget(caller: Writer, budgets: BudgetServiceDep, made_by: MadeBy) -> None:
    """Remove the tenant's own limits; the operator's still hold."""
    await budgets.remove(caller.tenant, made_by)


def _shown(status: BudgetStatus) -> BudgetObject:
    own = status.budget.definition
    periods = {period.kind: _period(status, period, usage) for period, usage in status.usage.items()}
    return BudgetObject(
        daily_usd=own.daily_usd if own else None,
        monthly_usd=own.monthly_usd if own else None,
        warn_share=status.limits.warn_share,
        set_at=status.budget.set_at,
        made_by=own.made_by if own else None,
        operator=OperatorBudget(daily_usd=status.operator.daily_usd, monthly_usd=status.operator.monthly_usd),
        day=periods["day"],
        month=periods["month"],
    )


def _period(status: BudgetStatus, period: Period, usage: Usage) -> PeriodObject:
    limit = status.limits.of(period)
    return PeriodObject(
        limit_usd=limit,
        spent_usd=usage.spent_usd,
        reserved_usd=usage.reserved_usd,
        remaining_usd=None if limit is None else max(0.0, round(limit - usage.committed_usd, 6)),
        began_at=datetime(period.began.year, period.began.month, period.began.day, tzinfo=UTC),
        ends_at=period.ends_at,
    )
