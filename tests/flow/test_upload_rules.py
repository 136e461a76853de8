"""Uploads that start jobs: each rule makes one job of each, however often it is handled, and when dispatchers die."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobArtifactReady, JobCancelled
from contracts.events.rule import RuleDeleted
from contracts.ids import new_id
from contracts.manifest import Artifact
from contracts.quotas import QuotaLimits, QuotaName
from contracts.streams import RULE_COUNTS, aggregate
from kit.auth.quotas import Quotas
from kit.bus.connection import request
from kit.bus.event_store import EventStore
from tests.harness.dispatch.crashing_dispatcher import CrashTrigger
from tests.harness.rules.rule_events import TENANT
from tests.harness.rules.rule_nodes import RuleHarness, RuleNode, open_rule_harness
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedNats

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with chosen_bus(tmp_path_factory.mktemp("rules")) as started:
        yield started


@pytest.fixture
async def harness(server: EmbeddedNats) -> AsyncIterator[RuleHarness]:
    async with open_rule_harness(server.settings) as opened:
        yield opened


async def counted(harness: RuleHarness) -> dict[str, int]:
    """Return the number of counted jobs of each rule, over all days."""
    found: Counter[str] = Counter()
    for record in await EventStore(harness.client, RULE_COUNTS.name).load("saccade.cnt.>"):
        found[record.subject.split(".")[3]] += json.loads(record.body)["count"]
    return dict(found)


async def test_several_dispatchers_that_handle_an_upload_at_once_and_again_submit_one_job_for_each_rule(
    harness: RuleHarness,
) -> None:
    rules = {await harness.rule(), await harness.rule(match={"filename": "*.JPG"})}
    await harness.rule(match={"media": "video"})
    nodes = [await harness.node() for _ in range(4)]
    uploads = [await harness.upload(f"{number}.jpg") for number in range(10)]
    for _ in range(2):
        await asyncio.gather(*(harness.apply(node, upload) for upload in uploads for node in nodes))
    jobs = await harness.jobs()
    made = Counter((job.rule.rule_id, *job.rule.upload_ids) for job in jobs.values() if job.rule)
    assert made == Counter((rule_id, upload_id) for rule_id in rules for upload_id, _ in uploads)
    assert await counted(harness) == dict.fromkeys(rules, 10)


async def test_a_rule_applies_to_uploads_that_were_completed_while_it_was_there_and_on(harness: RuleHarness) -> None:
    before = await harness.upload()
    rule_id = await harness.rule()
    after = await harness.upload()
    node = await harness.node()
    await harness.apply(node, before)
    await harness.apply(node, after)
    assert await harness.job_uploads() == [(after[0],)]
    await harness.change(rule_id, enabled=False)
    off = await harness.upload()
    await harness.apply(node, off)
    await harness.change(rule_id)
    await harness.apply(node, off)
    again = await harness.upload()
    await harness.apply(node, again)
    assert await harness.job_uploads() == [(after[0],), (again[0],)]
    await harness.delete_rule(rule_id)
    await harness.apply(node, await harness.upload())
    assert len(await harness.jobs()) == 2


async def test_other_tenants_and_deleted_uploads_start_nothing(harness: RuleHarness) -> None:
    await harness.rule()
    node = await harness.node()
    deleted = await harness.upload()
    await harness.delete_upload(deleted[0])
    await harness.apply(node, deleted)
    await harness.apply(node, await harness.upload(tenant="other"), "other")
    assert await harness.jobs() == {}
    assert await harness.skips() == []


async def test_the_daily_limit_is_exact_over_several_dispatchers(harness: RuleHarness) -> None:
    await harness.rule(jobs_per_day=7)
    nodes = [await harness.node() for _ in range(4)]
    uploads = [await harness.upload() for _ in range(20)]
    for _ in range(2):
        await asyncio.gather(
            *(
                harness.apply(nodes[(number + turn) % 4], upload)
                for number, upload in enumerate(uploads)
                for turn in (0, 1)
            )
        )
    submitted = [upload_id for (upload_id,) in await harness.job_uploads()]
    skipped = [upload_id for skip in await harness.skips() for upload_id in skip.upload_ids]
    assert (len(submitted), len(skipped)) == (7, 13)
    assert sorted(submitted + skipped) == sorted(upload_id for upload_id, _ in uploads)
    assert {skip.error.code for skip in await harness.skips()} == {ErrorCode.RULE_LIMIT_REACHED}


async def test_the_limit_counts_by_the_day_of_the_upload(harness: RuleHarness) -> None:
    await harness.rule(jobs_per_day=1)
    node = await harness.node()
    first, second = await harness.upload(), await harness.upload()
    harness.clock.pass_(days=1)
    third = await harness.upload()
    for upload in (first, second, third):
        await harness.apply(node, upload)
    assert await harness.job_uploads() == [(first[0],), (third[0],)]


@pytest.mark.parametrize("after", [False, True])
async def test_wherever_a_dispatcher_dies_the_next_one_submits_one_job_and_counts_it_once(
    harness: RuleHarness, after: bool
) -> None:
    """It dies at each access to the bus in turn, before it has its effect or after."""
    steps = 0
    while True:
        rule_id = await harness.rule(jobs_per_day=2, match={"metadata": {"step": f"{steps}"}})
        trigger = CrashTrigger(steps, after=after)
        first, second = await harness.node(trigger=trigger), await harness.node()
        uploads = [await harness.upload(metadata={"step": f"{steps}"}) for _ in range(3)]
        task = asyncio.ensure_future(harness.apply(first, uploads[0]))
        await asyncio.wait([task, asyncio.ensure_future(trigger.dead.wait())], return_when=asyncio.FIRST_COMPLETED)
        died = trigger.dead.is_set()
        task.cancel()
        for upload in (*uploads, *uploads):
            await harness.apply(second, upload)
        made = [
            job.rule.upload_ids[0]
            for job in (await harness.jobs()).values()
            if job.rule and job.rule.rule_id == rule_id
        ]
        assert made == [uploads[0][0], uploads[1][0]], trigger.passed
        assert [skip.upload_ids[0] for skip in await harness.skips()][-1] == uploads[2][0]
        assert (await counted(harness))[rule_id] == 2
        assert len(await harness.skips()) == steps + 1
        for node in (first, second):
            await node.die()
        if not died:
            break
        steps += 1
    assert steps >= 5, "upload, count, job, new count, new job"


async def test_what_cannot_be_submitted_is_skipped_once_and_says_why(harness: RuleHarness) -> None:
    await harness.rule(params={"quality": "high"})
    await harness.rule("gone")
    fine = await harness.rule()
    nodes = [await harness.node() for _ in range(3)]
    upload = await harness.upload()
    for _ in range(2):
        await asyncio.gather(*(harness.apply(node, upload) for node in nodes))
    skips = await harness.skips()
    assert Counter(skip.error.code for skip in skips) == {ErrorCode.INVALID_PARAMETER: 1, ErrorCode.UNKNOWN_WORKLOAD: 1}
    assert {skip.upload_ids for skip in skips} == {(upload[0],)}
    (job,) = (await harness.jobs()).values()
    assert job.rule
    assert job.rule.rule_id == fine
    assert await counted(harness) == {fine: 1}, "what is skipped is not counted"


async def test_a_rule_submits_no_more_unfinished_jobs_than_its_tenant_may_have(harness: RuleHarness) -> None:
    rule_id, other = await harness.rule(), await harness.rule(tenant="other")
    quotas = Quotas(QuotaLimits({"acme": {QuotaName.UNFINISHED_JOBS: 2}}))
    node = await harness.node(quotas=quotas)
    uploads = [await harness.upload() for _ in range(3)]
    for upload in uploads:
        await harness.apply(node, upload)
        await node.tail.wait_for(await harness.publish(RuleDeleted(), new_id("rul")), 10)  # the job is folded
    (skip,) = await harness.skips()
    assert (skip.error.code, skip.upload_ids) == (ErrorCode.QUOTA_EXCEEDED, (uploads[2][0],))
    assert quotas.refused == {("acme", QuotaName.UNFINISHED_JOBS): 1}
    jobs = await harness.jobs()
    assert len(jobs) == 2
    assert await counted(harness) == {rule_id: 2}, "what is skipped is not counted"

    await harness.apply(node, uploads[0])
    assert len(await harness.skips()) == 1, "a job that is there is not refused when its upload is handled again"
    foreign = await harness.upload(tenant="other")
    await harness.apply(node, foreign, "other")
    assert (await counted(harness))[other] == 1, "another tenant has a quota of its own"

    ended = JobCancelled(attempt=0)
    await node.tail.wait_for(await harness.publish(ended, next(iter(jobs))), 10)
    await harness.apply(node, await harness.upload())
    assert await counted(harness) == {rule_id: 3, other: 1}, "the end of a job makes room"


async def test_what_was_skipped_stays_so_when_it_would_be_possible_later(harness: RuleHarness) -> None:
    refusing = True

    def refusal(_: str, __: float) -> SaccadeError | None:
        return SaccadeError(ErrorCode.BUDGET_EXCEEDED) if refusing else None

    rule_id = await harness.rule()
    node = await harness.node(refusal=refusal)
    upload = await harness.upload()
    await harness.apply(node, upload)
    refusing = False
    await harness.until(lambda: folded_skip(node, rule_id))
    await harness.apply(node, upload)
    assert [skip.error.code for skip in await harness.skips()] == [ErrorCode.BUDGET_EXCEEDED]
    assert await harness.jobs() == {}
    later = await harness.upload()
    await harness.apply(node, later)
    assert await harness.job_uploads() == [(later[0],)]


async def folded_skip(node: RuleNode, rule_id: str) -> bool:
    rule = node.rules.rules.get("acme", rule_id)
    return rule is not None and rule.skipped is not None


async def test_an_error_of_one_rule_keeps_no_other_from_its_job(
    harness: RuleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = await harness.rule(metadata={"broken": "yes"})
    fine = await harness.rule()
    node = await harness.node()

    def refusal(_: str, __: float) -> SaccadeError | None:
        raise RuntimeError("a fault in the program")

    upload = await harness.upload()
    bad = await harness.node(refusal=refusal)
    with pytest.raises(RuntimeError):
        await harness.apply(bad, upload)
    await harness.apply(node, upload)
    made = {job.rule.rule_id for job in (await harness.jobs()).values() if job.rule}
    assert made == {broken, fine}


async def of_rule(harness: RuleHarness, rule_id: str) -> list[str]:
    return [
        job_id for job_id, job in (await harness.jobs()).items() if job.rule is not None and job.rule.rule_id == rule_id
    ]


async def test_a_rule_never_applies_to_a_result_of_its_own_nor_do_two_in_a_circle(harness: RuleHarness) -> None:
    """The result of a rule's job is uploaded, named as such; the other rule applies, and the first one not again."""
    photos = await harness.rule(match={"media": "image"})
    clips = await harness.rule("clips", match={"media": "video"})
    node = await harness.node()
    await harness.apply(node, await harness.upload())
    (first,) = await of_rule(harness, photos)
    own = await harness.upload("result.jpg", from_job=first)
    await harness.apply(node, own)
    assert await of_rule(harness, photos) == [first]
    await harness.apply(node, await harness.upload("result.mp4", "video", from_job=first))
    (second,) = await of_rule(harness, clips)
    circle = await harness.upload("again.jpg", from_job=second)
    await harness.apply(node, circle)
    assert await of_rule(harness, photos) == [first]
    assert [(skip.upload_ids[0], skip.error.code) for skip in await harness.skips()] == [
        (own[0], ErrorCode.RULE_LOOP),
        (circle[0], ErrorCode.RULE_LOOP),
    ]
    await harness.apply(node, await harness.upload("other.jpg", from_job="job_of_nobody"))
    assert len(await of_rule(harness, photos)) == 2


async def ready(harness: RuleHarness, job_id: str, sha256: str) -> None:
    """Publish an artifact of a job."""
    artifact = Artifact.model_validate(
        {"name": "out.jpg", "key": "k", "bytes": 1, "sha256": sha256, "media_type": "image/jpeg", "title": "Out"}
    )
    await harness.publish(JobArtifactReady(attempt=1, run_id="run_1", artifact=artifact), job_id)


async def test_a_result_is_known_by_its_content_when_nobody_names_the_job(harness: RuleHarness) -> None:
    photos = await harness.rule(match={"media": "image"})
    clips = await harness.rule("clips", match={"media": "video"})
    node = await harness.node()
    await harness.apply(node, await harness.upload(sha256="1" * 64))
    (first,) = await of_rule(harness, photos)
    await ready(harness, first, "1" * 64)  # a copy of the input is no result
    await ready(harness, first, "2" * 64)
    await harness.apply(node, await harness.upload(sha256="1" * 64))
    assert len(await of_rule(harness, photos)) == 2
    await harness.apply(node, await harness.upload(sha256="2" * 64))
    assert len(await of_rule(harness, photos)) == 2
    await harness.apply(node, await harness.upload("clip.mp4", "video", sha256="2" * 64))
    (second,) = await of_rule(harness, clips)
    await ready(harness, second, "3" * 64)
    await harness.apply(node, await harness.upload(sha256="3" * 64))
    assert len(await of_rule(harness, photos)) == 2, "two rules in a circle, known by content"
    later = await harness.node()
    await harness.apply(later, await harness.upload(sha256="3" * 64))
    assert len(await of_rule(harness, photos)) == 2, "a dispatcher that was started later knows it from the stream"


async def test_a_result_whose_job_was_erased_makes_one_more_job_and_no_circle(harness: RuleHarness) -> None:
    """Nobody knows any more what it was made of; of what is made of it, that is known again."""
    rule_id = await harness.rule()
    node = await harness.node()
    await harness.apply(node, await harness.upload())
    (first,) = await of_rule(harness, rule_id)
    result = await harness.upload("result.jpg", from_job=first)
    await request(harness.client, "STREAM.PURGE.EVENTS", {"filter": aggregate(TENANT, "job", first)})
    await harness.apply(node, result)
    (second,) = await of_rule(harness, rule_id)
    await harness.apply(node, await harness.upload("again.jpg", from_job=second))
    assert await of_rule(harness, rule_id) == [second]
    assert [skip.error.code for skip in await harness.skips()] == [ErrorCode.RULE_LOOP]


async def test_a_rule_that_was_deleted_skips_nothing_any_more(harness: RuleHarness) -> None:
    """The dispatcher has not folded the deletion yet."""
    rule_id = await harness.rule(jobs_per_day=1)
    node = await harness.node()
    await harness.apply(node, await harness.upload())
    rule = node.rules.rules.get(TENANT, rule_id)
    await harness.delete_rule(rule_id)
    await harness.until(lambda: no_rule(node, rule_id))
    assert rule
    node.rules.rules.restore([rule])
    await harness.apply(node, await harness.upload())
    assert await harness.skips() == []
    assert len(await harness.jobs()) == 1


async def no_rule(node: RuleNode, rule_id: str) -> bool:
    return node.rules.rules.get(TENANT, rule_id) is None


async def test_an_endless_chain_of_results_ends(harness: RuleHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.dispatcher.rules.upload_origins.MOST_JOBS", 3)
    rules = [await harness.rule(match={"filename": f"{number}.jpg"}) for number in range(6)]
    node = await harness.node()
    job_id: str | None = None
    for number, rule_id in enumerate(rules):
        await harness.apply(node, await harness.upload(f"{number}.jpg", from_job=job_id))
        found = await of_rule(harness, rule_id)
        assert len(found) == (1 if number <= 3 else 0)
        job_id = found[0] if found else job_id
        if not found:
            break
    assert (await harness.skips())[-1].error.code is ErrorCode.RULE_LOOP


async def test_an_old_definition_is_published_again_before_it_ages_out(harness: RuleHarness) -> None:
    rule_id = await harness.rule(jobs_per_day=5)
    node = await harness.node()
    harness.clock.pass_(days=61)
    node.lead()

    async def repeated() -> list[dict[str, Any]]:
        return [one.data for one in await harness.events(f"saccade.evt.*.rule.{rule_id}.updated")]

    (data,) = await harness.until(repeated)
    assert data["rule"]["jobs_per_day"] == 5
    await asyncio.sleep(0.1)
    rule = node.rules.rules.get("acme", rule_id)
    assert rule
    assert rule.updated_at > harness.clock().replace(microsecond=0) - (harness.clock.ahead / 61)
    assert len(await repeated()) == 1


def test_modules_of_the_rules_match_without_a_bus() -> None:
    """Matching and grouping are pure: nothing of them reads the bus."""
    for name in ("contracts/rule_matching.py", "contracts/rule.py", "services/dispatcher/rules/upload_group.py"):
        assert "kit." not in (Path(__file__).parents[2] / name).read_text()
