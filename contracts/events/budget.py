"""Events of budgets: what a tenant may spend on workers in a day and in a month (UTC)."""

from __future__ import annotations

from datetime import date
from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from contracts.events.base import EventData

#: Kind of a period. With its first day it identifies the period: ``day`` and 2026-11-23, or ``month`` and 2026-11-01.
PeriodKind = Literal["day", "month"]


class BudgetSet(EventData):
    """A client set the tenant's budget, or the dispatcher repeats it before it expires; the whole definition."""

    type: ClassVar[str] = "budget.set"

    #: Most that may be spent in a day and in a month; None for no limit.
    daily_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    monthly_usd: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    #: Share of a limit at which ``budget.warned`` is published.
    warn_share: float = Field(default=0.8, gt=0, le=1)
    #: Id of the API key of who set it; None without keys.
    made_by: str | None = None
    #: Time at which it was set, if this event repeats one that the stream is about to delete by age.
    set_at: AwareDatetime | None = None


class BudgetRemoved(EventData):
    """A client removed the tenant's budget; the operator's limits still apply."""

    type: ClassVar[str] = "budget.removed"

    made_by: str | None = None


class BudgetWarned(EventData):
    """The cost of a period has reached the warning share of its limit; once for each period and limit."""

    type: ClassVar[str] = "budget.warned"

    period: PeriodKind
    #: First day of the period (UTC).
    began: date
    limit_usd: float = Field(ge=0)
    #: Share of the limit at which the warning is given.
    warn_share: float = Field(gt=0, le=1)
    #: Cost of ended attempts, and of running ones so far.
    spent_usd: float = Field(ge=0)
    #: What running jobs may cost besides.
    reserved_usd: float = Field(ge=0)


class BudgetExhausted(EventData):
    """A limit is spent, or a job was stopped because it would be; once for each period and limit."""

    type: ClassVar[str] = "budget.exhausted"

    period: PeriodKind
    #: First day of the period (UTC).
    began: date
    limit_usd: float = Field(ge=0)
    #: Cost of ended attempts, and of running ones so far.
    spent_usd: float = Field(ge=0)
    #: What running jobs may cost besides.
    reserved_usd: float = Field(ge=0)
    #: Job that was refused or stopped because of it, if there was one when it was published.
    job_id: str | None = None
