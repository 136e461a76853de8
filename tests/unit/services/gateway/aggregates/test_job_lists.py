"""Lists of jobs are right for every filter, and no query reads a table from end to end."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from contracts.events.job import JobSubmitted, PartOf
from contracts.events.rule import JobRule
from contracts.ids import new_id
from contracts.job import Job, State
from services.gateway.aggregates import job_lists
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.view import GatewayView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES = (State.QUEUED, State.RUNNING, State.FAILED, State.SUCCEEDED)
WORKLOADS = ("laps", "nerf", "splat")
RULES = [new_id("rul") for _ in range(2)]
PIPELINE = new_id("job")


@pytest.fixture
def view() -> Iterator[GatewayView]:
    opened = GatewayView(None)
    yield opened
    opened.close()


def jobs(count: int) -> list[Job]:
    """Return jobs whose times of creation are not quite in the order of the stream: clocks differ."""
    chance = random.Random(7)
    found = []
    for number in range(1, count + 1):
        submitted = JobSubmitted(
            workload=chance.choice(WORKLOADS),
            workload_version="1",
            inputs={},
            params={},
            deadline=NOW,
            part_of=PartOf(job_id=PIPELINE, stage="a", shard=0, shards=1) if chance.random() < 0.1 else None,
            rule=JobRule(rule_id=chance.choice(RULES), upload_ids=()) if chance.random() < 0.3 else None,
        )
        at = NOW + timedelta(seconds=number + chance.uniform(-3, 3))
        found.append(
            Job(
                id=new_id("job"),
                tenant=chance.choice(("local", "other")),
                submitted=submitted,
                created_at=at,
                updated_at=at,
                state=chance.choice(STATES),
                first_sequence=number * 8,
                sequence=number * 8,
            )
        )
    return found


def filters() -> list[JobFilter]:
    times = [(None, None), (NOW + timedelta(seconds=150), None), (None, NOW + timedelta(seconds=60))]
    times += [(NOW + timedelta(seconds=40), NOW + timedelta(seconds=160)), (NOW + timedelta(days=9), None)]
    states: tuple[tuple[str, ...], ...] = ((), ("failed",), ("queued", "succeeded"), ("cancelled",))
    return [
        JobFilter(workload=workload, states=chosen, since=since, until=until, rule=rule, pipeline=pipeline)
        for workload, chosen, (since, until), rule, pipeline in itertools.product(
            (None, "nerf", "absent"), states, times, (None, RULES[0]), ("", PIPELINE)
        )
    ]


@pytest.mark.parametrize("few", [3, 2000])
def test_every_filter_gives_the_jobs_that_match_newest_first(
    view: GatewayView, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(job_lists, "_FEW", few)
    stored = jobs(200)
    for job in stored:
        view.keep_job(job)
    for wanted in filters():
        expected = [job for job in reversed(stored) if job.tenant == "local" and wanted.matches(job)]
        found: list[Job] = []
        before: int | None = None
        while True:
            page, before = view.jobs("local", wanted, before=before, limit=7)
            found += page
            if before is None:
                break
        assert [job.id for job in found] == [job.id for job in expected], wanted


def plan(view: GatewayView, query: str, values: Any = ()) -> list[str]:
    return [row[3] for row in view._file.rows(f"EXPLAIN QUERY PLAN {query}", values)]


def test_lists_are_found_in_an_index_alone(view: GatewayView) -> None:
    for wanted in filters():
        is_short = view.job_lists.is_short("local", wanted)
        query, values = view.job_lists.query("local", wanted, 1000, 51, is_short=is_short)
        steps = plan(view, query, values)
        assert steps[0].startswith("SEARCH jobs USING "), (wanted, steps)
        several = len(wanted.states) > 1 and wanted.workload is None  # each state is asked for by itself
        if wanted.rule is None and "jobs_by_time" not in steps[0] and not several:
            assert steps == [step for step in steps if "COVERING INDEX" in step], (wanted, steps)


@pytest.mark.parametrize("few", [0, 2000])
def test_a_list_without_a_time_is_not_sorted(view: GatewayView, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(job_lists, "_FEW", few)
    view.keep_job(jobs(1)[0])
    for wanted in filters():
        if len(wanted.states) > 1 or wanted.since or wanted.until:
            continue
        query, values = view.job_lists.query("local", replace(wanted), None, 51, is_short=False)
        assert [step for step in plan(view, query, values) if "TEMP B-TREE" in step] == [], wanted


def noting(ask: Callable[..., Any], asked: list[tuple[str, Any]]) -> Callable[..., Any]:
    """Return a method of the file that notes what it is asked."""

    def noted(query: str, values: Any = ()) -> Any:
        asked.append((query, values))
        return ask(query, values)

    return noted


def test_no_query_scans_a_table(view: GatewayView, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that a request, a scrape of /metrics, the housekeeping and an erasure of an upload ask for."""
    asked: list[tuple[str, Any]] = []
    for name in ("rows", "row", "write"):
        monkeypatch.setattr(view._file, name, noting(getattr(view._file, name), asked))
    view.count_jobs()
    view.count_sessions()
    view.count_jobs_of("local", "nerf")
    view.unfinished_sessions()
    view.unfinished_jobs_of("upl_a")
    view.first_job_of("local", "upl_a", "nerf")
    view.stage_jobs("job_a")
    view.jobs("local", JobFilter(text="x"), limit=3)
    view.jobs("local", JobFilter(text="x", pipeline=PIPELINE), limit=3)
    view.job_lists.texts.search("local", "x", "nerf", 9)
    view.job_lists.created_us("local", 9)
    for counted in (JobFilter(), JobFilter(workload="nerf"), JobFilter(text="x"), JobFilter(rule=RULES[0])):
        view.job_counter.count("local", counted)
    view.sessions("local", ("ready",), before=9, limit=3)
    view.open_uploads_created_before(NOW)
    view.completed_uploads("local", NOW, 5)
    view.erasures.jobs_of_upload("upl_a")
    view.erasures.unfinished_of("local")
    view.rules.page("local", limit=3)
    view.rules.count("local")
    view.rules.count_jobs("rul_a", NOW)
    view.rules.result_hashes("rul_a")
    view.rules.last_job("rul_a")
    view.prune_before(NOW)
    monkeypatch.undo()
    assert len(asked) > 15
    short_ones = ("jobs_unfinished", "(subquery", "json_each")
    scans = {query: plan(view, query, values) for query, values in asked}
    # The partial index of unfinished jobs is as long as there are such jobs; what is counted is a stretch with a limit;
    # and what is looked up is a given list of ids.
    scans = {
        query: steps
        for query, steps in scans.items()
        if any(step.startswith("SCAN") and not any(short in step for short in short_ones) for step in steps)
    }
    assert scans == {}
