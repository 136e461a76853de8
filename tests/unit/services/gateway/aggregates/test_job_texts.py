"""Search by text and counts of jobs: right for every filter, and bounded however many jobs there are."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from contracts.events.job import JobInput, JobSubmitted, PartOf
from contracts.events.rule import JobRule
from contracts.ids import new_id
from contracts.job import Job, State
from services.gateway.aggregates import job_counts, job_lists, job_texts
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.job_texts import TEXT_CHARS, searchable, text_of
from services.gateway.aggregates.view import GatewayView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES = (State.QUEUED, State.RUNNING, State.FAILED, State.SUCCEEDED)
WORKLOADS = ("laps", "nerf", "splat")
NAMES = ("GX010042.MP4", "Straße.mov", "anna-7.mp4")
RULE = new_id("rul")
PIPELINE = new_id("job")


@pytest.fixture
def view() -> Iterator[GatewayView]:
    opened = GatewayView(None)
    yield opened
    opened.close()


def file_named(name: str) -> JobInput:
    return JobInput(
        upload_id=new_id("upl"), key="k", filename=name, content_type="video/mp4", size_bytes=1, sha256="a" * 64
    )


def jobs(count: int) -> list[Job]:
    chance = random.Random(11)
    found = []
    for number in range(1, count + 1):
        submitted = JobSubmitted(
            workload=chance.choice(WORKLOADS),
            workload_version="1",
            inputs={"reference": [file_named(chance.choice(NAMES))]},
            params={},
            metadata={"lap": str(number % 9)} if chance.random() < 0.5 else {},
            deadline=NOW,
            part_of=PartOf(job_id=PIPELINE, stage="a", shard=0, shards=1) if chance.random() < 0.1 else None,
            rule=JobRule(rule_id=RULE, upload_ids=()) if chance.random() < 0.3 else None,
        )
        at = NOW + timedelta(seconds=number)
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


def keep(view: GatewayView, stored: list[Job]) -> None:
    for job in stored:
        view.keep_job(job)
        view.keep_text(job)


def filters(texts: tuple[str, ...]) -> list[JobFilter]:
    times = [(None, None), (NOW + timedelta(seconds=50), None), (NOW + timedelta(days=9), None)]
    states: tuple[tuple[str, ...], ...] = ((), ("failed",), ("queued", "succeeded"), ("cancelled",))
    return [
        JobFilter(workload, chosen, since, until, pipeline, rule, searchable(text))
        for text, workload, chosen, (since, until), rule, pipeline in itertools.product(
            texts, (None, "nerf", "absent"), states, times, (None, RULE), ("", PIPELINE)
        )
    ]


@pytest.mark.parametrize("few", [3, 2000])
def test_every_search_gives_the_jobs_that_match_newest_first_over_pages_that_look_at_few(
    view: GatewayView, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    for module in (job_lists, job_texts):
        monkeypatch.setattr(module, "MATCHES", few)
    monkeypatch.setattr(job_texts, "LOOKED_AT", max(few, 8))
    stored = jobs(160)
    keep(view, stored)
    texts = ("gx0100", "STRASSE", "lap=7", "LAPS", "e", "absent", stored[40].id, stored[41].id[-9:])
    for wanted in filters(texts):
        expected = [job.id for job in reversed(stored) if job.tenant == "local" and wanted.matches(job)]
        found: list[str] = []
        before: int | None = None
        pages = 0
        while True:
            page, before = view.jobs("local", wanted, before=before, limit=7)
            found += [job.id for job in page]
            pages += 1
            if before is None:
                break
        assert found == expected, wanted
        assert pages <= 160 // 3 + 2


@pytest.mark.parametrize("few", [3, 2000])
def test_counts_are_those_of_the_list(view: GatewayView, monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    monkeypatch.setattr(job_lists, "_FEW", few)
    stored = jobs(160)
    keep(view, stored)
    for wanted in filters(("", "lap=7", "absent")):
        matching = [job for job in stored if job.tenant == "local" and wanted.matches(job)]
        counts = view.job_counter.count("local", wanted)
        assert counts.complete
        assert counts.by_state == Counter(str(job.state) for job in matching), wanted
        assert counts.by_workload == Counter(job.submitted.workload for job in matching), wanted


def test_counts_beyond_the_limit_are_of_the_newest_and_say_so(
    view: GatewayView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_counts, "COUNTED", 30)
    monkeypatch.setattr(job_counts, "LOOKED_AT", 30)
    monkeypatch.setattr(job_counts, "MATCHES", 4)
    stored = jobs(160)
    keep(view, stored)
    counts = view.job_counter.count("local", JobFilter())
    assert (counts.complete, counts.by_state.total(), counts.by_workload.total()) == (False, 30, 30)
    newest = [job for job in reversed(stored) if job.tenant == "local" and not job.submitted.part_of]
    nerf = [job for job in newest if job.submitted.workload == "nerf"][:30]
    counts = view.job_counter.count("local", JobFilter(workload="nerf"))
    assert counts.by_state == Counter(str(job.state) for job in nerf)
    counts = view.job_counter.count("local", JobFilter(rule=RULE))
    assert (counts.complete, counts.by_state.total()) == (False, 4)


def test_a_text_is_bounded_and_names_files_that_the_job_names_by_id_only() -> None:
    (job,) = jobs(1)
    many = job.submitted.model_copy(
        update={"inputs": {}, "input_ids": {"photos": [new_id("upl") for _ in range(5000)]}, "metadata": {"a": "\0B"}}
    )
    asked: list[str] = []

    def filename_of(upload_id: str) -> str:
        asked.append(upload_id)
        return f"IMG_{len(asked):04}.JPG"

    job = Job(**{**vars(job), "submitted": many})
    text = text_of(job, filename_of)
    assert len(text) == TEXT_CHARS
    assert text.startswith(f"{job.id}\n{many.workload}\na= b\nimg_0001.jpg\nimg_0002.jpg\n")
    assert len(asked) < 400


def test_how_an_accent_is_encoded_does_not_matter() -> None:
    assert searchable("Mu\u0308ller") == searchable("MÜLLER")


def test_texts_go_with_their_jobs(view: GatewayView) -> None:
    stored = jobs(60)
    keep(view, stored)

    def texts() -> int:
        return len(view.rows()["job_texts"])

    assert texts() == 60
    view.erasures.delete_jobs(lambda job_id: job_id == stored[3].id)
    assert texts() == 59
    ended = [job for job in stored if job.state.ended and job is not stored[3]]
    old = [job for job in ended if job.created_at < NOW + timedelta(seconds=30)]
    view.prune_before(NOW + timedelta(seconds=30))
    assert texts() == 59 - len(old) == len(view.rows()["jobs"])
    view.erasures.delete_tenant(lambda tenant: tenant == "other", 60 * 8, NOW + timedelta(days=1))
    assert texts() == len(view.rows()["jobs"])
    assert {row[0] for row in view.rows()["job_texts"]} == {"local"}
