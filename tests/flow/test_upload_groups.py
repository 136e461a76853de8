"""Groups of uploads: each makes one job, also when dispatchers die, and however often uploads come again."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from contracts.errors import ErrorCode
from contracts.events.base import Message, encode
from contracts.streams import EVENTS, aggregate
from kit.bus.connection import request
from kit.bus.event_store import EventStore, StoredEvent
from services.dispatcher.rules.reaction_progress import CONSUMER
from tests.harness.dispatch.crashing_dispatcher import CrashTrigger
from tests.harness.rules.rule_events import TENANT, closed
from tests.harness.rules.rule_nodes import RuleHarness, open_rule_harness
from tests.harness.servers.embedded import EmbeddedNats

pytestmark = pytest.mark.anyio

PAIR = {"by": "metadata.lap", "needs": 2, "order": "filename"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path_factory.mktemp("groups")) as started:
        yield started


@pytest.fixture
async def harness(server: EmbeddedNats) -> AsyncIterator[RuleHarness]:
    async with open_rule_harness(server.settings) as opened:
        yield opened


async def lap(harness: RuleHarness, name: str, value: str = "1") -> tuple[str, int]:
    return await harness.upload(f"{name}.mp4", "video", metadata={"lap": value})


async def jobs_of(harness: RuleHarness, count: int) -> list[tuple[str, ...]]:
    """Wait for a number of jobs and return their uploads."""

    async def enough() -> list[tuple[str, ...]]:
        found = await harness.job_uploads()
        return found if len(found) >= count else []

    return await harness.until(enough)  # type: ignore[no-any-return]


async def test_a_pair_makes_one_job_in_the_order_of_the_numbers_in_its_names(harness: RuleHarness) -> None:
    await harness.rule("laps", group=PAIR)
    node = await harness.node()
    node.lead()
    tenth, ninth = await lap(harness, "lap_10"), await lap(harness, "lap_9")
    await harness.apply(node, tenth)
    await harness.apply(node, ninth)
    assert await jobs_of(harness, 1) == [(ninth[0], tenth[0])]
    (job,) = (await harness.jobs()).values()
    assert [given.upload_id for name in ("reference", "lap") for given in job.inputs[name]] == [ninth[0], tenth[0]]
    (closing,) = await harness.closings()
    assert (closing.reason, closing.job_id) == ("complete", next(iter(await harness.jobs())))
    more = [await lap(harness, "a"), await lap(harness, "b")]
    for upload in more:
        await harness.apply(node, upload)
    assert (await jobs_of(harness, 2))[1] == (more[0][0], more[1][0])
    assert [added.number for added in await harness.additions()] == [1, 1, 2, 2]


async def test_several_dispatchers_put_each_upload_into_one_group_and_again_changes_nothing(
    harness: RuleHarness, seed: int
) -> None:
    await harness.rule("laps", group=PAIR)
    nodes = [await harness.node() for _ in range(4)]
    nodes[0].lead()
    uploads = [await lap(harness, f"{number}", str(number % 5)) for number in range(30)]
    random.Random(seed).shuffle(uploads)
    for _ in range(2):
        await asyncio.gather(*(harness.apply(node, upload) for upload in uploads for node in nodes))
        jobs = await jobs_of(harness, 15)
        assert Counter(upload_id for pair in jobs for upload_id in pair) == Counter(
            upload_id for upload_id, _ in uploads
        )
        assert {len(pair) for pair in jobs} == {2}
    assert len(await harness.additions()) == 30
    # One that was not there when they were closed, and knows of them what it has read, adds nothing either.
    late = await harness.node()
    for upload in uploads[:6]:
        await harness.apply(late, upload)
    assert len(await harness.additions()) == 30
    assert [len(node.rules.groups) for node in (*nodes, late)] == [0] * 5


class HeldStore(EventStore):
    """The event store of a dispatcher that is slow to read groups."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.reading, self.go_on = asyncio.Event(), asyncio.Event()

    async def load(self, subjects: str, deadline_s: float = 5.0, **form: Any) -> list[StoredEvent]:
        if ".group." in subjects:
            self.reading.set()
            await self.go_on.wait()
        return await super().load(subjects, deadline_s, **form)


async def test_a_group_that_another_dispatcher_opens_while_this_one_looks_for_it_takes_the_second_upload(
    harness: RuleHarness,
) -> None:
    await harness.rule("laps", group=PAIR)
    store = HeldStore(harness.client)
    slow, fast = await harness.node(own_store=store), await harness.node()
    first, second = await lap(harness, "1"), await lap(harness, "2")
    adding = asyncio.ensure_future(harness.apply(slow, second))
    await store.reading.wait()
    await harness.apply(fast, first)
    assert await slow.tail.wait_for(second[1] + 1, 5)
    store.go_on.set()
    await adding
    assert [(added.upload_id, added.number) for added in await harness.additions()] == [(first[0], 1), (second[0], 1)]


@pytest.mark.parametrize("after", [False, True])
async def test_wherever_a_dispatcher_dies_each_upload_is_in_one_group_and_each_group_makes_one_job(
    harness: RuleHarness, after: bool
) -> None:
    """It adds, closes and submits, and dies at each access to the bus in turn, before it has its effect or after."""
    steps = 0
    while await _dies_at(harness, steps, after):
        steps += 1
    assert steps >= 10, "additions, a closing and a submission"


async def _dies_at(harness: RuleHarness, step: int, after: bool) -> bool:
    """Play the life of one group with a dispatcher that dies at a step and another one; return whether it died."""
    await harness.rule("laps", group=PAIR, match={"metadata": {"lap": f"{step}"}})
    trigger = CrashTrigger(step, after=after)
    first, second = await harness.node(trigger=trigger), await harness.node()
    first.lead()
    uploads = [await lap(harness, f"{number}", f"{step}") for number in range(2)]

    async def work() -> None:
        for upload in uploads:
            await harness.apply(first, upload)
        await jobs_of(harness, step + 1)

    task = asyncio.ensure_future(work())
    await asyncio.wait([task, asyncio.ensure_future(trigger.dead.wait())], return_when=asyncio.FIRST_COMPLETED)
    died = trigger.dead.is_set()
    task.cancel()
    await first.die()
    second.lead()
    for upload in (*uploads, *uploads):
        await harness.apply(second, upload)
    jobs = await jobs_of(harness, step + 1)
    assert Counter(jobs[-1]) == Counter(upload_id for upload_id, _ in uploads), trigger.passed
    assert len(await harness.additions()) == 2 * step + 2
    assert len(await harness.closings()) == step + 1
    await second.die()
    return died


async def test_photos_that_came_until_it_was_quiet_make_one_job_by_a_dispatcher_that_was_not_there_then(
    harness: RuleHarness,
) -> None:
    await harness.rule(group={"quiet_s": 60, "minimum": 2})
    node = await harness.node()
    node.lead()
    first = [await harness.upload(f"{number}.jpg") for number in range(3)]
    harness.clock.pass_(seconds=59)
    first.append(await harness.upload("3.jpg"))
    for upload in reversed(first):
        await harness.apply(node, upload)
    harness.clock.pass_(seconds=59)
    await asyncio.sleep(0.1)
    assert await harness.closings() == []
    await node.die()
    # The next ones came when it had been quiet, before any dispatcher could close the first group.
    harness.clock.pass_(seconds=61)
    second = [await harness.upload("4.jpg")]
    later = await harness.node()
    for upload in second:
        await harness.apply(later, upload)
    harness.clock.pass_(seconds=120)
    later.lead()
    assert await jobs_of(harness, 1) == [tuple(upload_id for upload_id, _ in first)]
    (skip,) = await harness.until(harness.skips)
    assert (skip.upload_ids, skip.error.code) == ((second[0][0],), ErrorCode.MISSING_INPUT)
    assert [closing.reason for closing in await harness.closings()] == ["quiet", "quiet"]


async def test_a_quiet_group_waits_for_an_upload_that_was_completed_in_time_and_that_nobody_has_handled(
    harness: RuleHarness,
) -> None:
    jetstream = harness.client.jetstream()
    await jetstream.add_consumer(
        EVENTS.name,
        ConsumerConfig(
            durable_name=CONSUMER, filter_subject="saccade.evt.*.upload.*.completed", ack_policy=AckPolicy.EXPLICIT
        ),
    )
    try:
        await harness.rule(group={"quiet_s": 60})
        node = await harness.node()
        first = await harness.upload()
        await harness.apply(node, first)
        harness.clock.pass_(seconds=50)
        second = await harness.upload()
        harness.clock.pass_(seconds=11)
        node.lead()
        await asyncio.sleep(0.2)
        assert await harness.closings() == []
        await harness.apply(node, second)
        waiting = await jetstream.pull_subscribe_bind(CONSUMER, stream=EVENTS.name)
        for message in await waiting.fetch(2):
            await message.ack_sync()
        await node.die()
        harness.clock.pass_(seconds=60)
        (await harness.node()).lead()
        assert await jobs_of(harness, 1) == [(first[0], second[0])]
    finally:
        await jetstream.delete_consumer(EVENTS.name, CONSUMER)


async def test_a_quiet_group_with_as_many_uploads_as_the_workload_takes_is_complete(harness: RuleHarness) -> None:
    await harness.rule(group={"quiet_s": 3600})
    node = await harness.node()
    node.lead()
    for number in range(9):
        await harness.apply(node, await harness.upload(f"{number}.jpg"))
    (uploads,) = await jobs_of(harness, 1)
    assert len(uploads) == 8
    assert [len(group.upload_ids) for group in node.rules.groups] == [1]


async def test_an_upload_that_is_deleted_while_its_group_waits_is_left_out(harness: RuleHarness) -> None:
    await harness.rule("laps", group=PAIR)
    await harness.rule(match={"media": "image"}, group={"quiet_s": 60})
    node = await harness.node()
    laps = [await lap(harness, f"{number}") for number in range(3)]
    photos = [await harness.upload(f"{number}.jpg") for number in range(3)]
    for upload in (laps[0], *photos):
        await harness.apply(node, upload)
    for upload in (laps[0], photos[1]):
        await harness.delete_upload(upload[0])
    node.lead()
    await harness.apply(node, laps[1])
    await asyncio.sleep(0.1)
    assert await harness.jobs() == {}, "the pair waits for another"
    await harness.apply(node, laps[2])
    assert await jobs_of(harness, 1) == [(laps[1][0], laps[2][0])]
    await node.die()
    harness.clock.pass_(seconds=100)
    (await harness.node()).lead()
    assert (await jobs_of(harness, 2))[1] == (photos[0][0], photos[2][0])


async def test_a_group_that_was_complete_when_an_upload_was_deleted_waits_for_another(harness: RuleHarness) -> None:
    await harness.rule("laps", group=PAIR)
    node = await harness.node()
    laps = [await lap(harness, f"{number}") for number in range(3)]
    await harness.apply(node, laps[0])
    await harness.apply(node, laps[1])
    await harness.delete_upload(laps[0][0])
    deleted_at = laps[-1][1] + 3  # after two additions
    assert await node.tail.wait_for(deleted_at, 5)
    node.lead()
    await harness.apply(node, laps[2])
    assert await jobs_of(harness, 1) == [(laps[1][0], laps[2][0])]


class HeldAddition(EventStore):
    """The event store of a dispatcher that is slow to store an addition."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.publishing, self.go_on = asyncio.Event(), asyncio.Event()

    async def publish(self, message: Message, **condition: Any) -> int:
        if ".group." in message.subject:
            self.publishing.set()
            await self.go_on.wait()
        return await super().publish(message, **condition)


async def test_an_upload_that_is_deleted_while_it_joins_its_group_is_left_out_by_every_dispatcher(
    harness: RuleHarness,
) -> None:
    await harness.rule("laps", group=PAIR)
    store = HeldAddition(harness.client)
    slow, other, leader = await harness.node(own_store=store), await harness.node(), await harness.node()
    leader.lead()
    laps = [await lap(harness, f"{number}") for number in range(3)]
    adding = asyncio.ensure_future(harness.apply(slow, laps[0]))
    await store.publishing.wait()
    await harness.delete_upload(laps[0][0])
    store.go_on.set()
    await adding
    # A dispatcher that does not lead and closes nothing knows of the deletion too: one group, one job.
    await harness.apply(other, laps[1])
    await asyncio.sleep(0.1)
    assert await harness.jobs() == {}
    await harness.apply(other, laps[2])
    assert await jobs_of(harness, 1) == [(laps[1][0], laps[2][0])]
    assert [added.number for added in await harness.additions()] == [1, 1, 1]


@pytest.mark.parametrize("erased", [False, True])
async def test_no_job_is_made_of_a_closed_group_with_an_upload_that_is_gone(harness: RuleHarness, erased: bool) -> None:
    """It was deleted after the leader had read it and before the job: also its events, by an erasure."""
    await harness.rule(group={"quiet_s": 60})
    node = await harness.node()
    photos = [await harness.upload(f"{number}.jpg") for number in range(3)]
    for upload in photos:
        await harness.apply(node, upload)
    (group,) = node.rules.groups
    data = closed(group.rule_id, *(upload_id for upload_id, _ in photos))
    await harness.store.publish(encode(data, tenant=TENANT, subject_id=group.id, source="/test", time=harness.clock()))
    gone = photos[1][0]
    if erased:
        await request(harness.client, "STREAM.PURGE.EVENTS", {"filter": aggregate(TENANT, "upload", gone)})
    else:
        await harness.delete_upload(gone)
    node.lead()
    (skip,) = await harness.until(harness.skips)
    assert (skip.group_id, skip.error.code) == (group.id, ErrorCode.UPLOAD_ALREADY_ENDED)
    assert gone in skip.error.message
    assert await harness.jobs() == {}


async def test_uploads_without_the_metadata_belong_to_no_group(harness: RuleHarness) -> None:
    await harness.rule("laps", group=PAIR)
    node = await harness.node()
    await harness.apply(node, await harness.upload("a.mp4", "video"))
    assert await harness.additions() == []
    assert await harness.skips() == []


async def test_no_job_is_made_of_the_groups_of_a_deleted_rule_and_nothing_of_them_stays(harness: RuleHarness) -> None:
    rule_id = await harness.rule(group={"quiet_s": 60})
    node = await harness.node()
    await harness.apply(node, await harness.upload())
    assert len(node.rules.groups) == 1
    await harness.delete_rule(rule_id)
    harness.clock.pass_(seconds=100)
    later = await harness.node()
    later.lead()
    await asyncio.sleep(0.1)
    assert await harness.jobs() == {}
    assert (len(node.rules.groups), len(later.rules.groups), len(later.rules.rules)) == (0, 0, 0)


async def test_a_rule_that_is_off_closes_no_group_until_it_is_on_again(harness: RuleHarness) -> None:
    group = {"quiet_s": 60}
    rule_id = await harness.rule(group=group)
    node = await harness.node()
    upload = await harness.upload()
    await harness.apply(node, upload)
    await harness.change(rule_id, group=group, enabled=False)
    harness.clock.pass_(seconds=100)
    node.lead()
    await asyncio.sleep(0.1)
    assert await harness.closings() == []
    await harness.change(rule_id, group=group)
    assert await jobs_of(harness, 1) == [(upload[0],)]


async def test_more_open_groups_than_a_rule_may_have_are_refused(
    harness: RuleHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.dispatcher.rules.group_members.OPEN_GROUPS", 2)
    await harness.rule("laps", group=PAIR)
    node = await harness.node()
    uploads = [await lap(harness, "a", str(number)) for number in range(3)]
    for upload in uploads:
        await harness.apply(node, upload)
    (skip,) = await harness.skips()
    assert (skip.upload_ids, skip.error.code) == ((uploads[2][0],), ErrorCode.RULE_LIMIT_REACHED)
    await harness.apply(node, await lap(harness, "b", "1"))
    assert [added.count for added in await harness.additions()] == [1, 1, 2]


async def test_the_daily_limit_holds_for_groups_too(harness: RuleHarness) -> None:
    await harness.rule("laps", group=PAIR, jobs_per_day=1)
    node = await harness.node()
    node.lead()
    for number in range(4):
        await harness.apply(node, await lap(harness, f"{number}"))
    (skip,) = await harness.until(harness.skips)
    assert skip.error.code is ErrorCode.RULE_LIMIT_REACHED
    assert skip.group_id
    assert len(await harness.jobs()) == 1
    assert len(skip.upload_ids) == 2
