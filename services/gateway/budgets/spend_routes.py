"""``GET /v1/spend``: what jobs and sessions have cost, by day, workload and device."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import TENANT_PATTERN
from kit.auth.principal import ReaderOrOperator, tenants_of
from kit.http.app_state import from_app_state
from kit.http.problems import problem_responses
from services.gateway.aggregates.view import GatewayView

router = APIRouter(prefix="/v1/spend", tags=["budgets"])

_DEFAULT_DAYS: Final = 31
_MAX_DAYS: Final = 400
_ISO_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def _iso_day(value: object) -> object:
    """Refuse numbers, which pydantic would take for a time since 1970."""
    if isinstance(value, str) and not _ISO_DAY.fullmatch(value):
        raise ValueError("a day is YYYY-MM-DD")
    return value


IsoDay = Annotated[date, BeforeValidator(_iso_day)]


class SpendingObject(BaseModel):
    """Attempts of one workload on one device that ended on one day."""

    tenant: str
    day: date = Field(description="By UTC, and by the time at which the server stored the end of the attempt.")
    workload: str = Field(description="Of a pipeline: the work of its stage.")
    device: str
    attempts: int
    seconds: float = Field(description="Billed time, including the start of the worker.")
    usd: float
    estimated_usd: float = Field(description="Sum of the estimates of the jobs that succeeded.")


class SpendReport(BaseModel):
    """Spending of a period, newest day first. Running attempts are in `GET /v1/budgets`."""

    since: date
    until: date
    data: list[SpendingObject]
    usd: float = Field(description="Sum of all rows.")


@router.get(
    "", summary="Spending by day, workload and device", responses=problem_responses(ErrorCode.INVALID_PARAMETER)
)
async def read_spending(
    caller: ReaderOrOperator,
    view: Annotated[GatewayView, from_app_state("view")],
    *,
    since: Annotated[
        IsoDay | None,
        Query(description="First day (UTC), less than 400 days before `until`. [default: 30 days before `until`]"),
    ] = None,
    until: Annotated[IsoDay | None, Query(description="Last day (UTC). [default: today]")] = None,
    tenant: Annotated[
        str | None, Query(pattern=TENANT_PATTERN, description="For operators: only this tenant. [default: all]")
    ] = None,
) -> SpendReport:
    """Return what attempts that ended on these days have cost, beside what was estimated."""
    last = until or datetime.now(UTC).date()
    first = since or last - timedelta(days=min(_DEFAULT_DAYS - 1, (last - date.min).days))
    if not 0 <= (last - first).days < _MAX_DAYS:
        message = f"since and until must enclose 1 to {_MAX_DAYS} days."
        errors = [{"detail": message, "parameter": "since"}]
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Ask for a shorter period.", errors=errors)
    found = view.budgets.spending.between(tenants_of(caller, tenant), first, last)
    return SpendReport(
        since=first,
        until=last,
        data=[SpendingObject.model_validate(row._asdict()) for row in found],
        usd=round(sum(row.usd for row in found), 6),
    )
