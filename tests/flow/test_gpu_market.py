"""Hundreds of jobs on a market of GPUs: no dispatch above a cap, the ladder climbed as it should be, every cent told.

The dispatcher's own code decides; store, clock and market are the test's. The seed of a failure is in its message:
``--seed`` plays it again, ``make soak`` plays many, of a thousand jobs each.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from contracts.events.base import decode
from contracts.events.job import Cost
from contracts.job import UNCOUNTED_FAILURES
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import handling
from services.gateway.jobs.on_job import HANDLERS, JobProjector
from services.whatif.virtual_time import run
from tests.harness.dispatch.gpu_market import LATER_S
from tests.harness.dispatch.gpu_market_run import (
    CLIMB_S,
    DEADLINE_S,
    LIMITS,
    NOTICE_S,
    MarketRun,
    RecordedEvent,
    run_market,
    workload_of,
)
from tests.harness.share import Share

JOBS = 1000
#: In the market of ``make test``: with so many, all that makes a market hard happens as well.
FEW_JOBS = 500
#: The bus takes its time: what is decided at one moment is stored at another.
_BUS_S = 0.5
#: From the claim to the end of a worker that is stopped at once.
_STOP_S = 2.0
#: As long as that twice and a little: a dispatcher that dies while it stops a container leaves it to the next, which
#: gives the container its time once more. What was said before the stop does not have these seconds.
_STOPS_S = 2 * _STOP_S + 0.5
#: A worker that dies without a word is found out after this: a stale answer, a look, the bus.
_FOUND_S = 45.0


class Nobody:
    """Completion waiters without anybody who waits."""

    def forget(self, _: str) -> None:
        return None

    def notify(self, _: str) -> None:
        return None


def runs_of(told: list[RecordedEvent]) -> Iterator[tuple[RecordedEvent, list[RecordedEvent]]]:
    """Return each job.starting with all that was told of its run, and what was decided about it after that."""
    starts = [number for number, one in enumerate(told) if one.verb == "starting"]
    for start, end in pairwise([*starts, len(told)]):
        yield told[start], told[start + 1 : end]


def costs_of(told: list[RecordedEvent]) -> dict[str, Cost]:
    """Return what the events say that each run cost: each run says it once."""
    said = [one for one in told if one.verb in ("interrupted", "succeeded") and one.data.get("cost")]
    costs = {one.data["run_id"]: Cost.model_validate(one.data["cost"]) for one in said}
    assert len(costs) == len(said), "a run has one entry"
    return costs


def no_job_is_lost(market_run: MarketRun) -> None:
    assert len(market_run.told) == len(market_run.submitted) == len(market_run.tenants)
    for job_id, told in market_run.told.items():
        verbs = [one.verb for one in told]
        assert sum(verbs.count(end) for end in ("succeeded", "failed", "cancelled")) == 1, (job_id, verbs)
        assert verbs[-1] in ("succeeded", "failed", "cancelled"), (job_id, verbs)
        assert verbs.count("starting") <= verbs.count("retrying") + 1, (job_id, verbs)
        assert told[-1].at_s <= told[0].at_s + DEADLINE_S + 10, job_id
        ends = {bill.end for bill in market_run.market.bills.values() if bill.job_id == job_id}
        assert ("succeeded" in verbs) <= ("succeeds" in ends), job_id
        claimed = [one.data["run_id"] for one in told if one.verb == "started"]
        assert len(set(claimed)) == len(claimed), "a run is claimed once"
    assert market_run.market.at_work() == 0, "no container is left"


def no_two_workers_of_a_job(market_run: MarketRun) -> None:
    of_job: dict[str, list[tuple[float, float]]] = {}
    for bill in market_run.market.bills.values():
        if bill.claimed:
            assert bill.until_s is not None
            of_job.setdefault(bill.job_id, []).append((bill.since_s + bill.startup_s, bill.until_s))
    for job_id, spans in of_job.items():
        spans.sort()
        for (_, until_s), (since_s, _) in pairwise(spans):
            assert since_s >= until_s, (job_id, spans)


def nothing_is_dispatched_above_its_cap(market_run: MarketRun) -> None:
    for job_id, told in market_run.told.items():
        cap = market_run.submitted[job_id].max_cost_usd
        spent = 0.0
        for starting, after in runs_of(told):
            if cap is not None:
                assert starting.data["usd_per_s"] <= cap - spent + 1e-9, (job_id, starting, cap, spent)
            spent += sum(cost.usd for cost in costs_of(after).values())


def a_cap_is_kept_to_a_second(market_run: MarketRun) -> None:
    """Start-up is paid for before anybody can stop a worker, and a stop takes its time; nothing else goes further."""
    for job_id, told in market_run.told.items():
        left = market_run.submitted[job_id].max_cost_usd
        if left is None:
            continue
        said = costs_of(told)
        for bill in (one for one in market_run.market.bills.values() if one.job_id == job_id and one.claimed):
            begun_usd = (bill.startup_s + _STOPS_S) * bill.usd_per_s
            assert bill.usd(0.0) <= max(left, begun_usd) + bill.usd_per_s, (job_id, bill, left)
            left -= said[bill.run_id].usd


def the_ladder_is_climbed_as_it_should_be(market_run: MarketRun) -> None:
    for job_id, told in market_run.told.items():
        devices = market_run.devices(job_id)
        cap = market_run.submitted[job_id].max_cost_usd
        spent, expected = 0.0, 0
        for starting, after in runs_of(told):
            rung = starting.data["rung"]
            assert rung == expected, (job_id, starting)
            assert starting.data["device"] == devices[rung]
            spent += sum(cost.usd for cost in costs_of(after).values())
            interrupted = next((one for one in after if one.verb == "interrupted"), None)
            decided = next((one for one in after if one.verb in ("retrying", "failed")), None)
            if interrupted is None or decided is None:
                continue
            failure = interrupted.data["failure"]
            top = rung == len(devices) - 1
            if decided.verb == "retrying":
                climbed = failure in ("out_of_memory", "no_gpu")
                expected = rung + climbed
                assert decided.data["rung"] == expected, (job_id, failure, decided)
                assert expected < len(devices)
            elif failure == "out_of_memory" and not top:
                used_up = counted(told) >= workload_of(market_run, job_id).max_attempts
                assert used_up or cap is not None, (job_id, "a larger device was available")
            if failure == "no_gpu":
                assert not top
                assert interrupted.at_s - starting.at_s >= CLIMB_S, (job_id, interrupted)
                if decided.verb == "retrying":
                    assert decided.data["delay_s"] == 0.0


def counted(told: list[RecordedEvent]) -> int:
    """Count the attempts that are held against a job."""
    return sum(one.verb == "interrupted" and one.data["failure"] not in UNCOUNTED_FAILURES for one in told)


def attempts_are_counted_right(market_run: MarketRun) -> None:
    delays_s = []
    for job_id, told in market_run.told.items():
        most = workload_of(market_run, job_id).max_attempts
        assert counted(told) <= most, job_id
        last = told[-1]
        if last.verb == "failed" and last.data["failure"] in ("lost", "preempted", "not_started"):
            assert counted(told) == most, (job_id, [one.verb for one in told])
        for earlier, later in pairwise(told):
            if earlier.verb == "interrupted" and earlier.data["failure"] == "throttled" and later.verb == "retrying":
                delays_s.append(later.data["delay_s"])
    assert min(delays_s) >= LATER_S, "as long as the executor asked for, whichever dispatcher settles it"


def waiting_is_told_rarely_and_truly(market_run: MarketRun) -> None:
    for job_id, told in market_run.told.items():
        devices = market_run.devices(job_id)
        for starting, after in runs_of(told):
            waits = [one for one in after if one.verb == "waiting_for_gpu"]
            due_s = NOTICE_S
            for one in waits:
                assert one.data["waited_s"] >= due_s - 0.1, (job_id, one)
                due_s = 2 * one.data["waited_s"] - _BUS_S
                assert one.data["device"] == starting.data["device"] == devices[starting.data["rung"]]
                if following := one.data.get("next_device"):
                    assert following == devices[starting.data["rung"] + 1]
            assert len(waits) <= 12


def every_cent_is_told(market_run: MarketRun, folder: Path) -> None:
    """What the gateway shows, each event brought to it five times, is the sum of the events and of the bills."""
    view = GatewayView(folder)
    handle = handling(HANDLERS, JobProjector(view, Nobody(), Nobody(), print))  # type: ignore[arg-type]
    for stored in market_run.store.log:
        envelope = decode(stored.body)
        for _ in range(5):
            handle(envelope, stored.sequence)
    shown_usd = said_usd = 0.0
    for job_id, told in market_run.told.items():
        costs = costs_of(told)
        job = view.job(job_id)
        assert job
        assert job.costs == costs, job_id
        shown_usd += job.actual_usd
        said_usd += sum(cost.usd for cost in costs.values())
    view.close()
    assert abs(shown_usd - said_usd) < 0.005, (shown_usd, said_usd)


def every_cent_was_paid(market_run: MarketRun) -> None:
    """Each run that worked has its entry: to the cent where the worker told it, else a little more, never less."""
    for job_id, told in market_run.told.items():
        costs = costs_of(told)
        by_worker = {one.data["run_id"] for one in told if one.source.startswith("/worker")}
        last_words = {
            one.data["run_id"]
            for one in told
            if one.verb in ("interrupted", "succeeded") and one.source.startswith("/worker")
        }
        claimed = {
            bill.run_id: bill for bill in market_run.market.bills.values() if bill.job_id == job_id and bill.claimed
        }
        assert costs.keys() == claimed.keys() == by_worker, job_id
        for run_id, cost in costs.items():
            bill = claimed[run_id]
            paid_usd = bill.usd(0.0)
            if run_id not in last_words:
                assert -_STOPS_S * bill.usd_per_s <= cost.usd - paid_usd <= _FOUND_S * bill.usd_per_s, (cost, bill)
            else:
                assert cost.usd == pytest.approx(paid_usd, abs=0.000001), (job_id, cost, bill)
                assert cost.startup_s == pytest.approx(bill.startup_s, abs=0.1)


def nobody_is_starved(market_run: MarketRun) -> None:
    assert max(market_run.most.values()) <= LIMITS.tenant
    assert sum(pool.most < len(pool.held) for pool in market_run.market.pools.values()) == 0
    waits: dict[str, list[float]] = {}
    for job_id, told in market_run.told.items():
        if starting := next((one for one in told if one.verb == "starting"), None):
            waits.setdefault(market_run.tenants[job_id], []).append(starting.at_s - told[0].at_s)
    flood_s = statistics.median(waits.pop("flood"))
    assert waits
    for tenant, waited in waits.items():
        assert statistics.median(waited) < flood_s / 4, (tenant, flood_s)


def the_market_was_hard(market_run: MarketRun) -> None:
    """Nothing of the above is true only because nothing happened."""
    failures = Counter(
        one.data["failure"] for told in market_run.told.values() for one in told if one.verb == "interrupted"
    )
    assert failures.keys() >= {"user", "out_of_memory", "preempted", "lost", "not_started", "no_gpu", "throttled"}
    ends = Counter(told[-1].verb for told in market_run.told.values())
    assert ends["succeeded"] > len(market_run.told) / 3
    assert ends["cancelled"] > 0
    codes = {one.data["error"]["code"] for told in market_run.told.values() for one in told if one.verb == "failed"}
    assert codes >= {"cost_cap_reached", "out_of_memory"}
    assert {one.verb for told in market_run.told.values() for one in told} >= {"waiting_for_gpu"}
    assert {bill.obedient for bill in market_run.market.bills.values() if bill.claimed} == {True, False}


def check(market_run: MarketRun, folder: Path) -> None:
    no_job_is_lost(market_run)
    no_two_workers_of_a_job(market_run)
    nothing_is_dispatched_above_its_cap(market_run)
    a_cap_is_kept_to_a_second(market_run)
    the_ladder_is_climbed_as_it_should_be(market_run)
    attempts_are_counted_right(market_run)
    waiting_is_told_rarely_and_truly(market_run)
    every_cent_is_told(market_run, folder)
    every_cent_was_paid(market_run)
    nobody_is_starved(market_run)
    the_market_was_hard(market_run)


def test_jobs_on_a_hard_market(seed: int, share: Share, tmp_path: Path) -> None:
    try:
        check(run(run_market(seed, JOBS if share.is_whole else FEW_JOBS)), tmp_path)
    except BaseException as error:
        error.add_note(f"play it again with --seed {seed}")
        raise


@pytest.mark.soak
def test_many_markets(seed: int, soak_runs: int, tmp_path: Path) -> None:
    """Each market is another seed's; one for twenty runs that other soaks make, none in the short suite."""
    for number in range(soak_runs // 20):
        try:
            check(run(run_market(seed + 1 + number, JOBS)), tmp_path / str(number))
        except BaseException as error:
            error.add_note(f"play it again with --seed {seed + 1 + number}")
            raise
