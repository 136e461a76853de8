"""JSON bodies of the budget routes."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kit.http.request_body import RequestBody

Limit = Annotated[float, Field(ge=0, le=1_000_000_000, allow_inf_nan=False, examples=[20.0])]


class NewBudget(RequestBody):
    """Budget of a tenant; at least one of the limits."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"type": "number"}}} for name in ("daily_usd", "monthly_usd")
            ]
        }
    )

    daily_usd: Limit | None = Field(default=None, description="Most that workers may cost in a day (UTC); null: any.")
    monthly_usd: Limit | None = Field(default=None, description="The same for a month (UTC).")
    warn_share: float = Field(
        default=0.8, gt=0, le=1, description="Share of a limit at which `budget.warned` is published."
    )


class OperatorBudget(BaseModel):
    """Limits of every tenant, which no tenant can raise."""

    daily_usd: float | None
    monthly_usd: float | None


class PeriodObject(BaseModel):
    """Use of the budget in the present day or month."""

    limit_usd: float | None = Field(description="The smaller of the tenant's and the operator's limit; null: none.")
    spent_usd: float = Field(description="Cost of attempts that ended in the period, and of running ones so far.")
    reserved_usd: float = Field(description="What running jobs may cost besides: up to their cap, or their estimate.")
    remaining_usd: float | None = Field(description="Most that a further job may cost; null without a limit.")
    began_at: datetime
    ends_at: datetime


class BudgetObject(BaseModel):
    """Limits and use of a tenant's budget. All limits are null while none is set."""

    daily_usd: float | None
    monthly_usd: float | None
    warn_share: float
    set_at: datetime | None
    made_by: str | None = Field(description="Id of the API key of who set it.")
    operator: OperatorBudget
    day: PeriodObject
    month: PeriodObject
