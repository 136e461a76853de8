"""Hundreds of jobs against budgets, under dispatchers that die now and then, over the end of a month."""

from __future__ import annotations

from collections import Counter

import pytest

from contracts.budget import BudgetLimits
from contracts.events.base import decode
from contracts.job import State
from contracts.spending import SPENDING_EVENTS, Account
from services.whatif.virtual_time import run
from tests.harness.dispatch.budget_recount import committed_after_each, notices, unforeseen_startups
from tests.harness.dispatch.gpu_market_run import MarketRun, run_market

JOBS = 300
LIMIT_USD = 4.0
#: From the decision to stop an attempt beyond its reservation to the end of a container that does not obey at once.
_LATE_USD = 0.1


def beyond_limit(market_run: MarketRun, tenant: str) -> list[tuple[str, str, float]]:
    """Return the events after which more than the limit was committed for which no slow start-up accounts."""
    startups = unforeseen_startups(market_run.store.log, tenant)
    found, unforeseen_usd = [], 0.0
    for verb, job_id, usd in committed_after_each(market_run.store.log, tenant):
        if usd <= LIMIT_USD:
            unforeseen_usd = 0.0
        elif verb == "started":
            unforeseen_usd += startups.get(job_id, 0.0)
        if usd > LIMIT_USD + unforeseen_usd + _LATE_USD:
            found.append((verb, job_id, usd))
    return found


def check(market_run: MarketRun) -> None:
    refused: Counter[str] = Counter()
    launched = {bill.job_id for bill in market_run.market.bills.values()}
    for job_id, told in market_run.told.items():
        last = told[-1]
        assert State(last.verb).ended, job_id
        if last.verb == "failed" and last.data["error"]["code"] == "budget_exceeded":
            refused[market_run.tenants[job_id]] += 1
            assert any(one.verb == "starting" for one in told) or job_id not in launched
    for tenant in set(market_run.tenants.values()):
        committed = committed_after_each(market_run.store.log, tenant)
        assert committed
        assert beyond_limit(market_run, tenant) == [], tenant
        at_start = [usd for verb, _, usd in committed if verb == "starting"]
        assert max(at_start) <= LIMIT_USD + _LATE_USD
    assert refused["flood"] > 10, "nothing of this is true only because nothing was refused"
    told = notices(market_run.store.log)
    assert {key[1] for key in told if key[0] == "budget.exhausted"} >= {"flood"}
    assert set(told.values()) == {1}, "once for each period and limit"


def every_account_equals_the_jobs(market_run: MarketRun) -> None:
    accounts: dict[str, Account] = {}
    for stored in market_run.store.log:
        envelope = decode(stored.body)
        if envelope.type in SPENDING_EVENTS:
            accounts.setdefault(envelope.tenant, Account()).fold(envelope)
    for tenant, account in accounts.items():
        _, _, spent = committed_after_each(market_run.store.log, tenant)[-1]
        assert account.attempts == {}
        assert sum(account.by_day.values()) == pytest.approx(spent, abs=1e-5)


def test_no_market_is_bought_beyond_a_budget(seed: int) -> None:
    market_run = run(run_market(seed, JOBS, BudgetLimits(daily_usd=LIMIT_USD)))
    try:
        check(market_run)
        every_account_equals_the_jobs(market_run)
    except BaseException as error:
        error.add_note(f"play it again with --seed {seed}")
        raise
