"""Budget aggregate: its state is the fold of its events; and the decision whether an attempt may be launched. Pure.

A budget limits what a tenant's workers cost in a day and in a month (UTC). An operator may limit all tenants besides:
of two limits the smaller one holds, so a tenant cannot raise its own above the operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

from contracts.errors import ErrorBody, ErrorCode, SaccadeError
from contracts.events.base import EVENT_CLASSES, Envelope, decode_at
from contracts.events.budget import BudgetExhausted, BudgetRemoved, BudgetSet, BudgetWarned, PeriodKind

#: Age at which ``budget.set`` is published again: the stream deletes events of 90 days.
RENEWAL_AGE: Final = timedelta(days=45)
#: Amounts are compared in whole millionths of a dollar, in which costs are reported.
_DECIMALS: Final = 6

#: A warning or exhaustion that was published: its type, the period and the limit.
Notice = tuple[str, PeriodKind, date, float]


@dataclass(frozen=True)
class Period:
    """A day or a month (UTC)."""

    kind: PeriodKind
    began: date

    @property
    def ends_at(self) -> datetime:
        """Time at which the next period begins."""
        began = datetime(self.began.year, self.began.month, self.began.day, tzinfo=UTC)
        if self.kind == "day":
            return began + timedelta(days=1)
        return (began + timedelta(days=32)).replace(day=1)


def periods_of(moment: datetime) -> tuple[Period, Period]:
    """Return the day and the month of a moment."""
    day = moment.astimezone(UTC).date()
    return Period("day", day), Period("month", day.replace(day=1))


@dataclass(frozen=True)
class BudgetLimits:
    """Most that may be spent in a day and in a month, USD; None for no limit."""

    daily_usd: float | None = None
    monthly_usd: float | None = None
    #: Share of a limit at which a warning is published.
    warn_share: float = 0.8

    def of(self, period: Period) -> float | None:
        """Return the limit of a period."""
        return self.daily_usd if period.kind == "day" else self.monthly_usd

    def within(self, operator: BudgetLimits) -> BudgetLimits:
        """Return the smaller of these and the operator's limits."""
        return BudgetLimits(
            _smaller(self.daily_usd, operator.daily_usd),
            _smaller(self.monthly_usd, operator.monthly_usd),
            self.warn_share,
        )

    @property
    def exist(self) -> bool:
        """Whether there is a limit at all."""
        return self.daily_usd is not None or self.monthly_usd is not None


def _smaller(first: float | None, second: float | None) -> float | None:
    return min((limit for limit in (first, second) if limit is not None), default=None)


@dataclass(frozen=True)
class Budget:
    """A tenant's budget, folded from its events. Without a definition only the operator's limits hold."""

    tenant: str
    sequence: int = 0
    definition: BudgetSet | None = None
    #: Time of the definition, and of the event that has it.
    set_at: datetime | None = None
    stored_at: datetime | None = None
    notices: frozenset[Notice] = frozenset()

    def limits(self, operator: BudgetLimits) -> BudgetLimits:
        """Return the limits that hold."""
        own = self.definition
        if own is None:
            return operator
        return BudgetLimits(own.daily_usd, own.monthly_usd, own.warn_share).within(operator)


def fold(budget: Budget | None, envelope: Envelope, sequence: int) -> Budget:
    """Apply one event and return the budget; events that were applied before change nothing."""
    budget = budget or Budget(envelope.tenant)
    if sequence <= budget.sequence:
        return budget
    budget = replace(budget, sequence=sequence)
    data = envelope.parsed() if envelope.type in EVENT_CLASSES else None
    match data:
        case BudgetSet():
            return replace(budget, definition=data, set_at=data.set_at or envelope.time, stored_at=envelope.time)
        case BudgetRemoved():
            return replace(budget, definition=None, set_at=None, stored_at=None)
        case BudgetWarned() | BudgetExhausted():
            notice = (data.type, data.period, data.began, data.limit_usd)
            # Those of past months are never asked for again.
            kept = {known for known in budget.notices if (data.began - known[2]).days < 62}
            return replace(budget, notices=frozenset({*kept, notice}))
        case _:
            return budget


def fold_stored(budget: Budget | None, subject: str, body: bytes, sequence: int) -> Budget | None:
    """Apply one stored event. An undecodable event, or one of another subject, changes only the sequence."""
    try:
        return fold(budget, decode_at(subject, body), sequence)
    except ValueError:
        return replace(budget, sequence=sequence) if budget is not None and sequence > budget.sequence else budget


def renewal(budget: Budget, now: datetime) -> BudgetSet | None:
    """Return the definition to publish again before the stream deletes it by age; None if it is not yet due."""
    if budget.definition is None or budget.stored_at is None or now - budget.stored_at < RENEWAL_AGE:
        return None
    return BudgetSet(**{**budget.definition.model_dump(), "set_at": budget.set_at})


@dataclass(frozen=True)
class Usage:
    """Use of a tenant's budget in a period: cost of its workers, and what the running ones may cost besides, USD."""

    #: Cost of ended attempts, and of running ones so far.
    spent_usd: float = 0.0
    #: Amount that is reserved for running attempts and not spent yet.
    reserved_usd: float = 0.0

    @property
    def committed_usd(self) -> float:
        """Amount that no other attempt may use."""
        return round(self.spent_usd + self.reserved_usd, _DECIMALS)


@dataclass(frozen=True)
class Refusal:
    """Refusal to launch an attempt, or to let it go on: the limit, and how it is used."""

    period: Period
    limit_usd: float
    usage: Usage
    #: Amount that would have to be reserved besides; None for an attempt that runs.
    asked_usd: float | None = None

    @property
    def exhausted(self) -> bool:
        """Whether the limit itself is used up: another job might still fit where this one did not."""
        return self.asked_usd is None or round(self.usage.spent_usd, _DECIMALS) >= self.limit_usd

    def error(self) -> ErrorBody:
        """Return the error of the job."""
        return self.exception().body()

    def exception(self) -> SaccadeError:
        """Return the error of a request."""
        used = f"{usd(self.usage.spent_usd)} of {usd(self.limit_usd)} are spent this {self.period.kind}"
        if self.usage.reserved_usd:
            used += f" and {usd(self.usage.reserved_usd)} reserved for running jobs"
        tail = (
            "the job was stopped before it exceeds the budget"
            if self.asked_usd is None
            else f"the job may cost {usd(self.asked_usd)}"
        )
        return SaccadeError(
            ErrorCode.BUDGET_EXCEEDED,
            f"{used}; {tail}.",
            hint=(
                "Raise the budget with PUT /v1/budgets, or lower max_cost_usd. "
                f"The {self.period.kind} ends at {self.period.ends_at:%Y-%m-%dT%H:%M:%SZ}."
            ),
        )


def usd(amount: float) -> str:
    """Return an amount for a message: at least cents, at most millionths."""
    cents, more = f"{amount:.6f}"[:-4], f"{amount:.6f}"[-4:].rstrip("0")
    return f"{cents}{more} USD"


def refusal(
    limits: BudgetLimits,
    now: datetime,
    before: Mapping[Period, Usage],
    asked_usd: float,
    after_usd: Mapping[Period, float],
) -> Refusal | None:
    """Return why an attempt may not be launched; None if it may.

    ``after_usd`` is what would be committed with it. An attempt that needs nothing besides what is committed already
    may always be launched: it is free, or a stage of a pipeline for which the amount is reserved.
    """
    for period in periods_of(now):
        limit, usage = limits.of(period), before[period]
        if limit is None or after_usd[period] <= usage.committed_usd:
            continue
        if round(after_usd[period], _DECIMALS) > limit:
            return Refusal(period, limit, usage, asked_usd)
    return None


def excess(limits: BudgetLimits, now: datetime, usage: Callable[[Period], Usage]) -> Refusal | None:
    """Return the first limit that is committed beyond; None if there is none."""
    for period in periods_of(now):
        limit = limits.of(period)
        if limit is not None and (used := usage(period)).committed_usd > limit:
            return Refusal(period, limit, used)
    return None


def notices(budget: Budget, limits: BudgetLimits, now: datetime, usage: Callable[[Period], Usage]) -> list[Notice]:
    """Return the warnings and exhaustions that are due and were not published before.

    A limit that is spent gets no warning as well. A limit of 0 is left out: it is reported when it first refuses a job.
    """
    due: list[Notice] = []
    for period in periods_of(now):
        limit = limits.of(period)
        if not limit:
            continue
        spent = round(usage(period).spent_usd, _DECIMALS)
        event = BudgetExhausted if spent >= limit else BudgetWarned if spent >= limits.warn_share * limit else None
        if event and (notice := (event.type, period.kind, period.began, limit)) not in budget.notices:
            due.append(notice)
    return due
