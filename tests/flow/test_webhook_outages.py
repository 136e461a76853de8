"""While the bucket does not answer, only what the stream has deleted waits for it; strict order holds all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from contracts.streams import EVENTS
from kit.bus.connection import epoch_of
from kit.history.archive_reader import ArchiveReader
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from services.notifier.webhooks.sending.lanes import CONCURRENCY
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.embedded import EmbeddedS3
from tests.harness.streams.notifier import Publisher, publisher, submitted, succeeded
from tests.harness.webhooks.delivery import RunningWebhooks, run_webhooks
from tests.harness.webhooks.listeners import WebhookListener, listening

pytestmark = pytest.mark.anyio

JOB = "job_0198c0de-0000-7000-8000-000000000001"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with shared_servers(tmp_path) as both:
        yield both


@asynccontextmanager
async def opened(servers: Servers) -> AsyncIterator[tuple[ArchiveStage, Publisher, EmbeddedS3]]:
    nats, s3 = servers
    assert isinstance(s3, EmbeddedS3)
    async with archive_stage(nats, s3, segment_bytes=2_000) as stage, publisher(nats.settings) as bus:
        yield stage, bus, s3


@asynccontextmanager
async def paused(s3: EmbeddedS3) -> AsyncIterator[None]:
    s3.pause()
    try:
        yield
    finally:
        s3.resume()


async def trim(stage: ArchiveStage) -> int:
    """Archive, delete from the stream what is archived, and return the first sequence that it still has."""
    await stage.archive_all()
    await stage.purge_archived()
    return await stage.history.first_in_stream()


def sequences(listener: WebhookListener, job_id: str) -> list[int]:
    return [got.sequence for got in listener.got if got.event["subject"] == job_id]


async def test_an_endpoint_in_strict_order_that_is_known_late_waits_for_the_bucket_and_no_other_does(
    servers: Servers,
) -> None:
    async with (
        opened(servers) as (stage, bus, s3),
        listening() as strict,
        listening() as free,
        listening() as new,
        run_webhooks(servers[0].settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        await bus.submit()
        await bus.say(JOB, submitted())
        for _ in range(12):
            await bus.submit()
        await here.until(lambda: here.webhooks.file.planned == 14)
        first = await trim(stage)
        assert first > 3
        await here.until(lambda: here.webhooks.engine.active)
        async with paused(s3):
            # Another notifier made them after the first event, and this one hears of them now.
            late = await here.make(strict.url, types=("job.*",), since=1, ordered=True)
            loose = await here.make(free.url, types=("job.started",), since=1)
            recent = await here.make(new.url, types=("job.*",), since=first, ordered=True)
            await here.settled(recent.id, 14 - first)
            await bus.start(JOB)
            await here.settled(recent.id, 17 - first)
            await here.settled(loose.id, 1)
            await here.until(lambda: here.view.head(late.id, JOB))
            await asyncio.sleep(0.3)
            assert strict.got == [], "what is before it is not planned yet"
        await here.settled(late.id, 16, timeout_s=30)
        assert sequences(strict, JOB) == [2, 15, 16, 17]
        assert sequences(new, JOB) == [15, 16, 17]
        assert sorted(got.sequence for got in strict.got) == list(range(2, 18))


@asynccontextmanager
async def absent(
    servers: Servers, folder: Path, urls: tuple[str, str, str]
) -> AsyncIterator[tuple[ArchiveStage, Publisher, EmbeddedS3, list[str], int]]:
    """Stop the notifier after event 2, store further ones, and trim.

    Yield also the ids of an endpoint, of one in strict order, and of one of a tenant whose events are all in the
    stream; and the first sequence that is left.
    """
    async with opened(servers) as (stage, bus, s3):
        async with run_webhooks(servers[0].settings, folder) as here:
            loose = await here.make(urls[0], types=("job.*",))
            strict = await here.make(urls[1], types=("job.*",), ordered=True)
            other = await here.make(urls[2], tenant="other")
            await bus.submit()
            await bus.submit("other")
            await here.settled(strict.id, 1)
            await here.settled(other.id, 1)
        await bus.say(JOB, submitted().model_copy(update={"webhook_url": f"{urls[0]}/own"}))
        for _ in range(12):
            await bus.submit()
        first = await trim(stage)
        assert first > 4
        await bus.submit("other")
        await bus.say(JOB, succeeded())
        yield stage, bus, s3, [loose.id, strict.id, other.id], first


async def all_delivered(here: RunningWebhooks, loose: str, strict: str, got: tuple[WebhookListener, ...]) -> None:
    """Wait until all of 1 and 3 to 17 but 2 and 16, which are of the other tenant, are delivered."""
    for endpoint_id in (loose, strict):
        await here.settled(endpoint_id, 15, timeout_s=30)
    await here.settled(JOB, 2, timeout_s=30)
    expected = [1, *range(3, 16), 17]
    assert sorted(one.sequence for one in got[0].got if not one.path.endswith("/own")) == expected
    assert sorted(one.sequence for one in got[0].got if one.path.endswith("/own")) == [3, 17], "the job's own URL"
    assert sorted(one.sequence for one in got[1].got) == expected
    assert sequences(got[1], JOB) == [3, 17], "in strict order"
    assert not here.webhooks.projector.lacks_earlier


async def test_after_an_outage_of_the_notifier_only_events_of_the_archive_wait_for_the_bucket(
    servers: Servers, tmp_path: Path
) -> None:
    async with listening() as any_, listening() as strict, listening() as other:
        urls = (any_.url, strict.url, other.url)
        async with absent(servers, tmp_path / "view", urls) as (stage, _, s3, ids, first), paused(s3):
            archive = ArchiveReader(stage.segments)
            async with run_webhooks(servers[0].settings, tmp_path / "view", archive=archive) as here:
                await here.settled(ids[2], 2)
                await here.settled(ids[0], 1 + 17 - first)
                await asyncio.sleep(0.3)
                assert len(strict.got) == 1, "what is before the newer ones may be in the archive"
                assert here.webhooks.projector.lacks_earlier, "the position is not stored"
                s3.resume()
                await all_delivered(here, ids[0], ids[1], (any_, strict))


async def test_what_waits_for_the_bucket_is_not_forgotten_when_the_notifier_ends(
    servers: Servers, tmp_path: Path
) -> None:
    async with listening() as any_, listening() as strict, listening() as other:
        urls = (any_.url, strict.url, other.url)
        async with absent(servers, tmp_path / "view", urls) as (stage, _, s3, ids, _first):
            archive = ArchiveReader(stage.segments)
            async with paused(s3), run_webhooks(servers[0].settings, tmp_path / "view", archive=archive) as here:
                await here.settled(ids[2], 2)
                await here.until(lambda: here.webhooks.file.planned == 17)
            async with run_webhooks(servers[0].settings, tmp_path / "view", archive=archive) as here:
                await all_delivered(here, ids[0], ids[1], (any_, strict))


async def test_urls_that_jobs_named_are_read_by_the_next_process_if_the_bucket_was_away_until_then(
    servers: Servers, tmp_path: Path
) -> None:
    async with opened(servers) as (stage, bus, s3), listening() as own, listening() as got:
        await bus.say(JOB, submitted().model_copy(update={"webhook_url": own.url}))
        for _ in range(12):
            await bus.submit()
        assert await trim(stage) > 3
        await PlannedPosition(bus.client).save(*await epoch_of(bus.client, EVENTS.name))
        archive = ArchiveReader(stage.segments)
        s3.__exit__(None, None, None)
        async with run_webhooks(servers[0].settings, tmp_path / "view", archive=archive) as here:
            endpoint = await here.make(got.url)
            await bus.say(JOB, succeeded())
            await here.settled(endpoint.id, 1, timeout_s=40)
            assert here.webhooks.projector.receivers.job_url(JOB, "local") is None
        s3.__enter__()
        async with run_webhooks(servers[0].settings, tmp_path / "view", archive=archive) as here:
            await here.settled(JOB, 1, timeout_s=40)
        assert [one.type for one in own.got] == ["job.succeeded"]


async def test_deliveries_whose_events_are_in_the_archive_hold_up_no_other_of_their_endpoint(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.notifier.webhooks.deliveries.recent_events._ARCHIVE_S", 0.3)
    async with (
        opened(servers) as (stage, bus, s3),
        listening(status=503) as busy,
        run_webhooks(servers[0].settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        endpoint = await here.make(busy.url, types=("job.*",))
        for _ in range(CONCURRENCY):
            await bus.submit()
        await here.until(lambda: [bool(row.attempts) for row in here.view.due(endpoint.id, 9)] == [True] * CONCURRENCY)
        for _ in range(12):
            await bus.submit("other")
        assert await trim(stage) > CONCURRENCY
        await bus.submit("other")
        recent = here.webhooks.recent_events
        await here.until(lambda: here.webhooks.file.planned == CONCURRENCY + 13)
        recent._events.clear()  # as after many others
        recent.floor = recent.head
        busy.status = 200
        async with paused(s3):
            here.pass_(minutes=10)
            await here.until(lambda: here.webhooks.engine.attempting == CONCURRENCY)
            await bus.submit()
            await here.settled(endpoint.id, 1)
            assert [got.sequence for got in busy.got[CONCURRENCY:]] == [CONCURRENCY + 14]
        await here.until(lambda: not here.webhooks.engine.attempting)
        monkeypatch.setattr("services.notifier.webhooks.deliveries.recent_events._ARCHIVE_S", 20.0)
        here.pass_(minutes=2)
        await here.settled(endpoint.id, CONCURRENCY + 1, timeout_s=30)
