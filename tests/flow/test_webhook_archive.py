"""Deliveries of events that the stream has deleted: they come from the archive, or the user is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, Message
from contracts.ids import new_id
from contracts.streams import DELIVERIES, EVENTS
from kit.bus.connection import epoch_of
from kit.history.archive_reader import ArchiveReader
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from services.notifier.webhooks.deliveries.planning_turns import PIECE_DELIVERIES
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port
from tests.harness.streams.notifier import failed, publisher, submitted, succeeded
from tests.harness.webhooks.delivery import RunningWebhooks, run_webhooks
from tests.harness.webhooks.listeners import WebhookListener, listening

pytestmark = pytest.mark.anyio


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    with shared_servers(tmp_path) as both:
        yield both


async def trim(stage: ArchiveStage) -> int:
    """Archive, delete from the stream what is archived, and return the first sequence that it still has."""
    await stage.archive_all()
    await stage.purge_archived()
    return await stage.history.first_in_stream()


def forget_newest(here: RunningWebhooks) -> None:
    """Let the notifier have no event in memory, as after many others."""
    recent = here.webhooks.recent_events
    recent._events.clear()
    recent.floor = recent.head


async def test_deliveries_whose_events_are_only_archived_are_sent(servers: Servers) -> None:
    nats, s3 = servers
    port = free_port()
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        run_webhooks(nats.settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        endpoint = await here.make(f"http://{HOST}:{port}/", types=("job.*",))
        for _ in range(12):
            await bus.submit()
        await here.until(lambda: here.states(endpoint.id) == ["pending"] * 12)
        await here.until(lambda: any(one.attempts for one in here.view.list(endpoint.id, limit=99)[0]))
        first = await trim(stage)
        assert first > 3
        forget_newest(here)
        async with listening(port=port) as back:
            here.pass_(minutes=10)
            await back.wait(12)
            await here.until(lambda: here.states(endpoint.id) == ["delivered"] * 12)
            epoch = here.service.epoch
            assert await here.service.redeliver("local", endpoint.id, Cursor(epoch, 2), all_since=False) == 1
            await back.wait(13)
            assert back.got[12].sequence == 2

            refused = []
            for since in (endpoint.created_at - timedelta(hours=1), Cursor(epoch, 1)):
                with pytest.raises(SaccadeError) as refusal:
                    await here.service.redeliver("local", endpoint.id, since, all_since=True)
                assert refusal.value.code is ErrorCode.HISTORY_EXPIRED
                refused.append(str(refusal.value))
            begin = Cursor(epoch, first - 1)
            assert all(f"since {begin} " in message for message in refused)
            assert await here.service.redeliver("local", endpoint.id, begin, all_since=True) == 13 - first


async def test_a_message_about_an_archived_job_names_what_was_submitted(servers: Servers) -> None:
    nats, s3 = servers
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as got,
        run_webhooks(nats.settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        endpoint = await here.make(got.url, format="text", types=("job.failed",))
        job = await bus.submit()
        for _ in range(12):
            await bus.submit()
        assert await trim(stage) > 3
        await bus.say(job, failed())
        await here.settled(endpoint.id, 1)
        assert b"Lap comparison failed" in got.got[0].body
        for segment in await stage.stored():
            await stage.bucket.put(segment.key, b"cut off")
        here.webhooks.receivers._submissions._history = stage.history
        await bus.say(job, failed())
        await here.settled(endpoint.id, 2)
        assert b"Lap comparison" not in got.got[1].body, "it is sent without what cannot be read"


async def test_what_only_others_have_in_the_archive_refuses_nobody(servers: Servers) -> None:
    nats, s3 = servers
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as got,
        run_webhooks(nats.settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        mine = await here.make(got.url, tenant="beta")
        failures = await here.make(got.url, types=("job.failed", "session.*"))
        submissions = await here.make(got.url, types=("job.failed", "job.submitted"))
        for _ in range(12):
            await bus.submit()
        first = await trim(stage)
        assert first > 3
        await bus.submit("beta")
        since = mine.created_at - timedelta(hours=1)
        assert await here.service.redeliver("beta", mine.id, since, all_since=True) == 1
        assert await here.service.redeliver("local", failures.id, since, all_since=True) == 0
        records, _ = await here.webhooks.projector.records.batch(0)
        asked = [json.loads(one.body)["data"] for one in records if one.subject.endswith(".redelivery_requested")]
        assert [one["since_sequence"] for one in asked] == [first - 1] * 2, "to plan them needs no archive"
        with pytest.raises(SaccadeError) as refusal:
            await here.service.redeliver("local", submissions.id, since, all_since=True)
        assert refusal.value.code is ErrorCode.HISTORY_EXPIRED
        damaged = (await stage.stored())[0]
        await stage.bucket.put(damaged.key, b"cut off")
        here.service._history = stage.history
        with pytest.raises(SaccadeError) as refusal:
            await here.service.redeliver("beta", mine.id, since, all_since=True)
        assert refusal.value.code is ErrorCode.HISTORY_EXPIRED, "nobody knows what was in it"


@asynccontextmanager
async def trimmed_while_away(
    servers: Servers, folder: Path
) -> AsyncIterator[tuple[ArchiveStage, WebhookListener, Endpoint, int]]:
    """Deliver event 1, stop the notifier, store 2 to 13, and trim; yield also the first sequence that is left."""
    nats, s3 = servers
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as got,
    ):
        async with run_webhooks(nats.settings, folder) as here:
            endpoint = await here.make(got.url, types=("job.*",))
            await bus.submit()
            await here.settled(endpoint.id, 1)
        for _ in range(12):
            await bus.submit()
        yield stage, got, endpoint, await trim(stage)


async def test_what_is_stored_nowhere_is_refused_and_does_not_stop_what_follows(
    servers: Servers, tmp_path: Path
) -> None:
    async with trimmed_while_away(servers, tmp_path) as (_, got, endpoint, first):
        assert 3 < first <= 13
        async with run_webhooks(servers[0].settings, tmp_path) as here:
            await here.settled(endpoint.id, 1 + 14 - first)
            since = endpoint.created_at - timedelta(hours=1)
            with pytest.raises(SaccadeError) as refusal:
                await here.service.redeliver("local", endpoint.id, since, all_since=True)
            assert refusal.value.code is ErrorCode.HISTORY_EXPIRED
        assert sorted({one.sequence for one in got.got}) == [1, *range(first, 14)]


async def test_events_that_were_archived_while_no_notifier_ran_are_delivered(servers: Servers, tmp_path: Path) -> None:
    async with trimmed_while_away(servers, tmp_path) as (stage, got, endpoint, first):
        assert first > 3
        async with run_webhooks(servers[0].settings, tmp_path, archive=ArchiveReader(stage.segments)) as here:
            await here.settled(endpoint.id, 13)
        assert sorted({one.sequence for one in got.got}) == list(range(1, 14))


async def test_an_endpoint_that_is_known_late_gets_what_is_only_archived(servers: Servers) -> None:
    nats, s3 = servers
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as got,
        run_webhooks(nats.settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        for _ in range(12):
            await bus.submit()
        await here.until(lambda: here.webhooks.file.planned == 12)
        assert await trim(stage) > 3
        # Another notifier made it after the first event.
        endpoint = await here.make(got.url, types=("job.*",), since=1)
        await here.settled(endpoint.id, 11)
        assert sorted(one.sequence for one in got.got) == list(range(2, 13))


@pytest.mark.parametrize("keeps_file", [True, False])
async def test_a_job_s_own_url_gets_its_events_after_the_stream_has_deleted_the_one_that_names_it(
    servers: Servers, tmp_path: Path, *, keeps_file: bool
) -> None:
    nats, s3 = servers
    port = free_port()
    job_id = "job_0198c0de-0000-7000-8000-000000000001"
    async with archive_stage(nats, s3, segment_bytes=2_000) as stage, publisher(nats.settings) as bus:
        async with run_webhooks(nats.settings, tmp_path / "before") as here:
            await bus.say(job_id, submitted().model_copy(update={"webhook_url": f"http://{HOST}:{port}/"}))
            await here.until(lambda: here.view.attempts(job_id, 1))
        for _ in range(12):
            await bus.submit()
        assert await trim(stage) > 3
        folder = tmp_path / ("before" if keeps_file else "lost")
        async with (
            listening(port=port) as back,
            run_webhooks(nats.settings, folder, archive=ArchiveReader(stage.segments)) as here,
        ):
            await here.until(lambda: here.webhooks.engine.active)
            await asyncio.sleep(1)  # the projection is pruned
            await bus.say(job_id, succeeded())
            here.pass_(minutes=10)
            await here.settled(job_id, 2)
        assert sorted(back.of_job(job_id)) == ["job.submitted", "job.succeeded"]


async def test_what_a_late_endpoint_misses_because_it_is_stored_nowhere_is_said(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    nats, s3 = servers
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as got,
        run_webhooks(nats.settings) as here,
    ):
        for _ in range(12):
            await bus.submit()
        await here.until(lambda: here.webhooks.file.planned == 12)
        first = await trim(stage)
        assert first > 3
        await bus.submit()
        await here.until(lambda: here.webhooks.file.planned == 13)
        endpoint = await here.make(got.url, types=("job.*",), since=1)
        await here.settled(endpoint.id, 14 - first)
        assert sorted(one.sequence for one in got.got) == list(range(first, 14))
        assert f"events 2 to {first - 1} are left out" in caplog.text


async def test_a_bucket_that_does_not_answer_delays_only_what_needs_it(servers: Servers) -> None:
    nats, s3 = servers
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as got,
        run_webhooks(nats.settings, archive=ArchiveReader(stage.segments)) as here,
    ):
        for _ in range(12):
            await bus.submit()
        first = await trim(stage)
        assert first > 3
        again = await here.make(got.url, types=("job.*",))
        many = [await here.make(got.url, tenant="many") for _ in range(PIECE_DELIVERIES)]
        await here.until(lambda: here.webhooks.engine.active)
        assert isinstance(s3, EmbeddedS3)
        s3.pause()
        try:
            epoch = here.service.epoch
            await here.redeliver(again, since_sequence=2, until_sequence=first - 1, epoch=epoch)
            await here.until(here.webhooks.projector.receivers.next_redelivery)
            await bus.submit("many")
            for endpoint in many:
                await here.settled(endpoint.id, 1)
            await here.webhooks.projector.wait_until_current()
            assert not here.states(again.id)
            late = await here.make(got.url, types=("job.submitted",), since=1)
            await bus.submit("many")
            for endpoint in many:
                await here.settled(endpoint.id, 2)
            assert here.webhooks.projector.lacks_earlier, "the position is not stored"
        finally:
            s3.resume()
        await here.settled(again.id, first - 3)
        await here.settled(late.id, 11)
        assert not here.webhooks.projector.lacks_earlier
        assert here.webhooks.projector.receivers.next_redelivery() is None


async def test_rows_past_retention_are_removed_while_the_bucket_does_not_answer(
    servers: Servers, tmp_path: Path
) -> None:
    async with trimmed_while_away(servers, tmp_path) as (stage, _, endpoint, _first):
        for stream in (EVENTS.name, DELIVERIES.name):
            await stage.client.jetstream().purge_stream(stream)
        s3 = servers[1]
        assert isinstance(s3, EmbeddedS3)
        s3.pause()
        try:
            async with run_webhooks(servers[0].settings, tmp_path, archive=ArchiveReader(stage.segments)) as here:
                assert here.states(endpoint.id) == ["delivered"]
                await here.until(lambda: not here.states(endpoint.id))
        finally:
            s3.resume()


async def test_a_submission_that_cannot_be_read_does_not_keep_a_notifier_from_its_start(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as got:
        body = b'{"data": {"webhook_url":"https://a.example/"}'
        await bus.store.publish(Message(f"saccade.evt.local.job.{new_id('job')}.submitted", new_id("evt"), body))
        epoch, last = await epoch_of(bus.client, EVENTS.name)
        await PlannedPosition(bus.client).save(epoch, last)
        async with run_webhooks(settings) as here:
            endpoint = await here.make(got.url)
            await bus.submit()
            await here.settled(endpoint.id, 1)


async def test_a_start_without_a_file_goes_on_without_the_bucket_and_learns_jobs_urls_later(servers: Servers) -> None:
    nats, s3 = servers
    job_id = "job_0198c0de-0000-7000-8000-000000000001"
    async with (
        archive_stage(nats, s3, segment_bytes=2_000) as stage,
        publisher(nats.settings) as bus,
        listening() as own,
        listening() as got,
    ):
        await bus.say(job_id, submitted().model_copy(update={"webhook_url": own.url}))
        for _ in range(12):
            await bus.submit()
        assert await trim(stage) > 3
        await PlannedPosition(bus.client).save(*await epoch_of(bus.client, EVENTS.name))
        s3.__exit__(None, None, None)
        async with run_webhooks(nats.settings, archive=ArchiveReader(stage.segments)) as here:
            endpoint = await here.make(got.url)
            await bus.submit()
            await here.settled(endpoint.id, 1, timeout_s=40)
            receivers = here.webhooks.projector.receivers
            assert receivers.job_url(job_id, "local") is None
            s3.__enter__()
            await here.until(lambda: receivers.job_url(job_id, "local"), timeout_s=40)
            await bus.say(job_id, succeeded())
            await own.wait(1)
