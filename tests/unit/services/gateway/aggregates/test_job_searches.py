"""Searches and counts beside the event loop: what they see, what they do not hold up, and how many may wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.job import Job, State
from services.gateway.aggregates import job_searches
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.view import GatewayView
from tests.unit.services.gateway.aggregates import test_job_texts

pytestmark = pytest.mark.anyio

TEXTS = ("", "gx0100", "lap=7", "absent")


@pytest.fixture
def view(tmp_path: Path) -> Iterator[GatewayView]:
    opened = GatewayView(tmp_path)
    yield opened
    opened.close()


def fold(view: GatewayView, stored: list[Job]) -> None:
    """Fold jobs into the view, and commit nothing."""
    test_job_texts.keep(view, stored)
    view.set_position(stored[-1].sequence)


async def listed(view: GatewayView, wanted: JobFilter) -> list[str]:
    found: list[str] = []
    before: int | None = None
    while True:
        page, before = await view.searches.page("local", wanted, before=before, limit=20)
        found += [job.id for job in page]
        if before is None:
            return found


async def test_what_a_thread_reads_is_what_the_loop_would_read(view: GatewayView) -> None:
    stored = test_job_texts.jobs(160)
    fold(view, stored)
    some = tuple((job.first_sequence, job.id) for job in reversed(stored) if job.sequence % 3)
    wanted = [*test_job_texts.filters(TEXTS), JobFilter(among=some), JobFilter(states=("failed",), among=some)]
    assert len({each.is_a_stretch for each in wanted}) == 2
    for each in wanted:
        expected = [job for job in reversed(stored) if job.tenant == "local" and each.matches(job)]
        assert await listed(view, each) == [job.id for job in expected], each
        assert await view.searches.counts("local", each) == view.job_counter.count("local", each), each


async def test_a_search_finds_what_was_folded_before_it_and_not_committed(view: GatewayView) -> None:
    stored = test_job_texts.jobs(40)
    for job in stored:
        fold(view, [job])
        counts = await view.searches.counts("local", JobFilter(text=job.id))
        assert counts.by_state.total() == (job.tenant == "local" and not job.submitted.part_of)


async def test_what_is_held_back_is_found_too(view: GatewayView, tmp_path: Path) -> None:
    view.hold_while(lambda: True)
    stored = test_job_texts.jobs(40)
    fold(view, stored)
    assert len(await listed(view, JobFilter(text=stored[0].submitted.workload))) > 1
    assert view.dirty, "and it is still not committed"


async def test_a_job_that_leaves_the_state_meanwhile_is_not_listed_in_it(view: GatewayView) -> None:
    job = next(job for job in test_job_texts.jobs(40) if job.tenant == "local" and job.state is State.QUEUED)
    fold(view, [job])
    wanted = JobFilter(states=("queued",), text=job.id)
    with view._file.rewriting:
        searching = asyncio.ensure_future(listed(view, wanted))
        await asyncio.sleep(0.1)
        view.keep_job(replace(job, state=State.RUNNING, sequence=job.sequence + 1))
    assert await searching == []


async def test_nothing_waits_for_a_search(view: GatewayView) -> None:
    fold(view, stored := test_job_texts.jobs(40))
    with view._file.rewriting:  # as if it took long
        searching = [asyncio.ensure_future(view.searches.counts("local", JobFilter())) for _ in range(3)]
        await asyncio.sleep(0.1)
        expected = [job.id for job in reversed(stored) if job.tenant == "local" and job.state is State.FAILED]
        assert set(await asyncio.wait_for(listed(view, JobFilter(states=("failed",))), 10)) <= set(expected)
        fold(view, test_job_texts.jobs(41)[40:])
        view.commit()
        assert [search.done() for search in searching] == [False] * 3
    counts = await asyncio.gather(*searching)
    assert counts[2].by_state.total() >= counts[0].by_state.total() > 0


async def test_too_many_searches_of_one_tenant_are_refused_and_those_of_others_are_not(
    view: GatewayView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_searches, "_MOST_OF_TENANT", 5)
    fold(view, test_job_texts.jobs(40))
    ended: list[str] = []

    async def search(tenant: str) -> None:
        await view.searches.counts(tenant, JobFilter())
        ended.append(tenant)

    with view._file.rewriting:
        searching = [asyncio.ensure_future(search("local")) for _ in range(5)]
        await asyncio.sleep(0.1)
        with pytest.raises(SaccadeError) as refused:
            await view.searches.page("local", JobFilter(text="x"), limit=5)
        assert (refused.value.code, refused.value.extra) == (ErrorCode.RATE_LIMITED, {"retry_after_s": 1.0})
        searching.append(asyncio.ensure_future(search("other")))
        await asyncio.sleep(0.1)
    await asyncio.gather(*searching)
    assert ended == ["local", "other", "local", "local", "local", "local"]
    await search("local")
