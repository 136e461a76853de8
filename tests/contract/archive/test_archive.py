"""Archive on a real nats-server and a real S3 server: what is written is read again, and what is wrong is named."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter

import httpx
import pytest

from contracts.errors import ErrorCode, SaccadeError
from kit.history.segment_store import SegmentDamaged
from kit.history.subjects import matches_any
from tests.harness.history.archive_stage import archive_stage, refused
from tests.harness.servers.embedded import EmbeddedS3, NatsServer, S3Server

pytestmark = pytest.mark.anyio


async def test_history_is_the_same_whether_the_stream_or_the_archive_has_it(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(2500)
        await stage.archive_all()
        segments = await stage.stored()
        assert len(segments) > 5
        assert [segment.first for segment in segments] == [1, *(segment.last + 1 for segment in segments[:-1])]
        for first_in_stream in (1, 300, segments[3].last + 1, segments[-1].last + 1):
            await stage.purge_before(first_in_stream)
            history = stage.history
            bounds = await history.bounds()
            assert (bounds.first, bounds.first_in_stream, bounds.last) == (1, first_in_stream, 2500)
            assert [event async for event in history.read(0, 2500)] == stage.events
            one = random.choice(stage.events)
            for subjects in (
                (">",),
                ("saccade.evt.acme.>",),
                ("saccade.evt.*.job.*.succeeded",),
                (f"saccade.evt.*.job.{one.subject_id}.*",),
                ("saccade.evt.acme.job.*.queued", f"saccade.evt.beta.job.{one.subject_id}.*"),
            ):
                after = random.randrange(2500)
                until = random.randint(after, 2500)
                expected = [e for e in stage.events[after:until] if matches_any(subjects, e.subject)]
                assert [e async for e in history.read(after, until, subjects)] == expected
                assert await history.count(after, until, subjects) == dict(Counter(e.type for e in expected))
                newest = {e.subject: e for e in stage.events[:until] if matches_any(subjects[:1], e.subject)}
                assert await history.as_of(subjects[0], until) == sorted(newest.values(), key=lambda e: e.sequence)
            for event in random.sample(stage.events, 10):
                before = max([0, *(e.sequence for e in stage.events if e.time < event.time)])
                assert await history.sequence_before(event.time) == before


async def test_each_segment_has_an_intent_and_an_outcome_in_the_audit_log(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1000)
        await stage.archive_all()
        chain, verbs = await stage.audit()
        assert chain.open_intents == {}
        assert verbs == ["segment_requested", "segment_stored"] * len(await stage.stored())


async def test_a_segment_ends_after_its_time_and_an_idle_stream_is_archived(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server, segment_s=0.001) as stage:
        await stage.publish(3)
        writer = stage.writer()
        await asyncio.sleep(0.05)
        await stage.publish(1)
        await stage.archive_all(writer)
        segments = await stage.stored()
        assert segments[-1].last == 3, "the event that was stored later ended it"
        assert writer.lag.events == 1, "more events may still be stored in the time of the newest"


async def test_a_bucket_that_is_away_delays_the_archive_and_loses_nothing(
    nats_server: NatsServer, own_s3_server: EmbeddedS3
) -> None:
    async with archive_stage(nats_server, own_s3_server) as stage:
        await stage.publish(500)
        await stage.archive_all()
        await stage.purge_archived()
        first = (await stage.history.bounds()).first_in_stream
        await stage.publish(500)
        writer = stage.writer()
        own_s3_server.__exit__()
        writing = asyncio.ensure_future(stage.archive_all(writer))
        assert [event async for event in stage.history.read(first - 1, 1000)] == stage.events[first - 1 :]
        _, error = await refused(stage.history.read(0, 1000))
        assert error is not None
        assert error.code is ErrorCode.STORAGE_UNAVAILABLE
        with pytest.raises(SaccadeError) as not_written:
            await writing
        assert not_written.value.code is ErrorCode.STORAGE_UNAVAILABLE
        assert writer.lag.events > 0
        own_s3_server.__enter__()
        await stage.archive_all(writer)
        await stage.purge_archived()
        assert [event async for event in stage.history.read(0, 1000)] == stage.events
        await stage.audit()


@pytest.mark.parametrize("damage", ["removed", "cut off", "a byte changed", "replaced by another"])
async def test_a_damaged_segment_is_named_and_nothing_of_it_is_passed_on(
    nats_server: NatsServer, s3_server: S3Server, damage: str
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1000)
        await stage.archive_all()
        await stage.purge_archived()
        segments = await stage.stored()
        damaged, other = segments[2], segments[1]
        data = await stage.bucket.get(damaged.key)
        if damage == "removed":
            await stage.bucket.delete(damaged.key)
        elif damage == "cut off":
            await stage.bucket.put(damaged.key, data[: len(data) // 2])
        elif damage == "a byte changed":
            changed = bytearray(data)
            changed[1000] ^= 1
            await stage.bucket.put(damaged.key, bytes(changed))
        else:
            await stage.bucket.put(damaged.key, await stage.bucket.get(other.key))
        found, error = await refused(stage.history.read(0, 1000))
        assert (await stage.history.bounds()).first_in_stream == segments[-1].last + 1
        assert isinstance(error, SegmentDamaged)
        assert error.code is ErrorCode.SEGMENT_DAMAGED
        named = f"events {damaged.first} to {damaged.last}" if damage == "removed" else damaged.key
        assert named in error.message
        assert found == stage.events[: damaged.first - 1]
        assert [e async for e in stage.history.read(damaged.last, 1000)] == stage.events[damaged.last :]


@pytest.mark.parametrize("damaged", [0, 3, 4])
async def test_a_damaged_segment_keeps_nobody_from_finding_a_time_elsewhere(
    nats_server: NatsServer, s3_server: S3Server, damaged: int
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1500)
        await stage.archive_all()
        await stage.purge_archived()
        segments = await stage.stored()
        assert len(segments) > 5
        cut_off = segments[damaged]
        await stage.bucket.put(cut_off.key, (await stage.bucket.get(cut_off.key))[:100])
        times = [event.time for event in stage.events]
        for segment in segments:
            moment = times[segment.last - 1]
            before = next(number for number, time in enumerate(times) if time >= moment)
            if segment is not cut_off:
                assert await stage.history.sequence_before(moment) == before
                continue
            with pytest.raises(SegmentDamaged):
                await stage.history.sequence_before(moment)
            assert await stage.history.sequence_before(moment, at_most=True) == cut_off.first - 1


async def test_events_that_were_deleted_before_they_were_archived_are_reported(
    nats_server: NatsServer, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(500)
        await stage.archive_all()
        archived = (await stage.stored())[-1].last
        await stage.publish(500)
        await stage.purge_before(700)
        writer = stage.writer()
        with caplog.at_level(logging.ERROR):
            await stage.archive_all(writer)
        assert writer.lost_events == 699 - archived
        assert f"events {archived + 1} to 699 were deleted from the stream" in caplog.text
        await stage.purge_archived()
        found, error = await refused(stage.history.read(0, 1000))
        assert found == stage.events[:archived]
        assert error is not None
        assert (error.code, error.extra) == (ErrorCode.HISTORY_EXPIRED, {"first": 700})


async def test_a_stream_that_is_older_than_its_archive_is_archived_from_where_it_begins(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(900)
        await stage.purge_before(301)
        writer = stage.writer()
        await stage.archive_all(writer)
        await stage.purge_archived()
        assert writer.lost_events == 0
        assert (await stage.history.bounds()).first == 301
        assert [event async for event in stage.history.read(300, 900)] == stage.events[300:]
        found, error = await refused(stage.history.read(0, 900))
        assert not found
        assert error is not None
        assert "the first one is 301" in error.message


async def test_the_lag_is_loud_before_the_stream_deletes_what_is_not_archived(
    nats_server: NatsServer, s3_server: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with archive_stage(nats_server, s3_server, segment_bytes=10**9) as stage:
        await stage.publish(300)
        writer = stage.writer()
        await stage.archive_all(writer)
        assert writer.lag.events == 300
        assert writer.lag.retention_used < 0.01
        assert "the archive is" not in caplog.text


async def test_nobody_without_the_services_credentials_reads_an_object(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage, httpx.AsyncClient(trust_env=False) as http:
        await stage.publish(300)
        await stage.archive_all()
        [stored, *_] = await stage.stored()
        url = f"{s3_server.settings.endpoint_url}/{s3_server.settings.bucket}/{stored.key}"
        for address in (url, url.rpartition("/")[0], f"{s3_server.settings.endpoint_url}/{s3_server.settings.bucket}"):
            answer = await http.get(address)
            assert answer.status_code in (400, 401, 403)
            assert stored.key not in answer.text
