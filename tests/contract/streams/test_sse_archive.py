"""Event streams that begin before the stream's retention: the archive serves them; a gap stands for what it lacks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from contracts.ids import new_id
from kit.settings import S3Settings, as_environment
from services.notifier.streams import stream_history
from services.notifier.streams.sse import StreamEvent
from services.notifier.streams.subscriber import Subscriber
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.embedded import EmbeddedS3, NatsServer, S3Server
from tests.harness.streams.notifier import Block, Publisher, Reader, notifier, publisher, succeeded

pytestmark = pytest.mark.anyio
#: Each has five events.
JOBS = 30
#: Events that a stream reads at once.
BATCH = 20


@asynccontextmanager
async def archived(nats: NatsServer, s3: S3Server) -> AsyncIterator[tuple[ArchiveStage, Publisher, list[str]]]:
    """Store the events of some jobs, archive them, and delete the archived ones from the stream."""
    async with archive_stage(nats, s3, segment_bytes=10_000) as stage, publisher(nats.settings) as jobs:
        ids = []
        for _ in range(JOBS):
            ids.append(await jobs.submit())
            await jobs.start(ids[-1])
            await jobs.say(ids[-1], succeeded())
        await stage.remember(0)
        await stage.archive_all()
        await stage.purge_archived()
        assert (await stage.history.bounds()).first_in_stream > 100
        yield stage, jobs, ids


@asynccontextmanager
async def reading(nats: NatsServer, s3: S3Settings | None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reader]:
    for name, value in (as_environment(None, s3) if s3 else {}).items():
        monkeypatch.setenv(name, value)
    async with notifier(nats.settings) as reader:
        yield reader


@asynccontextmanager
async def held_back(
    nats: NatsServer, s3: S3Server, monkeypatch: pytest.MonkeyPatch, *, bucket: bool = True
) -> AsyncIterator[tuple[ArchiveStage, Publisher, Reader, asyncio.Event]]:
    """Archive the events of some jobs; the archived ones are trimmed as soon as a client has read a first batch."""
    monkeypatch.setattr(stream_history, "_BATCH_EVENTS", BATCH)
    trimmed = asyncio.Event()
    async with archive_stage(nats, s3, segment_bytes=10_000) as stage, publisher(nats.settings) as jobs:
        for _ in range(JOBS):
            job_id = await jobs.submit()
            await jobs.start(job_id)
            await jobs.say(job_id, succeeded())
        await stage.remember(0)
        await stage.archive_all()
        write = Subscriber.write

        async def write_and_trim(subscriber: Subscriber, events: Iterable[StreamEvent]) -> None:
            await write(subscriber, events)
            if not trimmed.is_set() and subscriber.position >= BATCH:
                await stage.purge_archived()
                trimmed.set()

        monkeypatch.setattr(Subscriber, "write", write_and_trim)
        async with reading(nats, s3.settings if bucket else None, monkeypatch) as reader:
            yield stage, jobs, reader, trimmed


def check(stage: ArchiveStage, blocks: list[Block], sequences: list[int]) -> None:
    """Check that blocks are these events, byte for byte."""
    assert [block.sequence for block in blocks] == sequences
    assert [block.data.encode() for block in blocks] == [stage.events[number - 1].body for number in sequences]


async def test_every_kind_of_start_is_served_from_the_archive(
    nats_server: NatsServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        archived(nats_server, s3_server) as (stage, jobs, ids),
        reading(nats_server, s3_server.settings, monkeypatch) as reader,
    ):
        last = stage.events[-1].sequence
        epoch = (await stage.history.bounds()).epoch
        for path, cursor, first in (
            ("/v1/events", f"{epoch}.3", 4),
            (f"/v1/events?since={epoch}.17", None, 18),
            ("/v1/events?since=3600", None, 1),
            (f"/v1/events?since={stage.events[70].timestamp}", None, 71),
        ):
            async with reader.open(path, cursor) as stream:
                blocks = await stream.take(last - first + 1)
                check(stage, blocks, list(range(first, last + 1)))
                if path == "/v1/events":
                    await jobs.submit()
                    [live] = await stream.take(1)
                    assert live.sequence == last + 1
                    last += 1
                    await stage.remember(last - 1)
        succeeding = [e.sequence for e in stage.events if e.type == "job.succeeded"]
        async with reader.open("/v1/events?types=job.succeeded&since=3600") as stream:
            check(stage, await stream.take(len(succeeding)), succeeding)
        of_job = [e.sequence for e in stage.events if e.subject_id == ids[2]]
        async with reader.open(f"/v1/events?subject={ids[2]}", f"{epoch}.{of_job[1]}") as stream:
            check(stage, await stream.take(3), of_job[2:])


async def test_a_job_that_only_the_archive_has_is_streamed_whole(
    nats_server: NatsServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        archived(nats_server, s3_server) as (stage, _, ids),
        reading(nats_server, s3_server.settings, monkeypatch) as reader,
    ):
        first_in_stream = (await stage.history.bounds()).first_in_stream
        parted = stage.events[first_in_stream - 1].subject_id
        for job_id in (ids[0], ids[9], parted):
            sequences = [event.sequence for event in stage.events if event.subject_id == job_id]
            async with reader.open(f"/v1/jobs/{job_id}/events") as stream:
                check(stage, await stream.rest(), sequences)
            cursor = f"{(await stage.history.bounds()).epoch}.{sequences[2]}"
            async with reader.open(f"/v1/jobs/{job_id}/events", cursor) as stream:
                check(stage, await stream.rest(), sequences[3:])
            cursor = f"{(await stage.history.bounds()).epoch}.{sequences[-1]}"
            async with reader.open(f"/v1/jobs/{job_id}/events", cursor) as stream:
                assert stream.status == 204
        assert (await reader.http.get(f"/v1/jobs/{new_id('job')}/events")).status_code == 404


async def test_what_the_archive_lacks_is_one_gap_between_the_events_around_it(
    nats_server: NatsServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        archived(nats_server, s3_server) as (stage, _, _),
        reading(nats_server, s3_server.settings, monkeypatch) as reader,
    ):
        lost = (await stage.stored())[1]
        await stage.bucket.delete(lost.key)
        epoch, last = (await stage.history.bounds()).epoch, stage.events[-1].sequence
        async with reader.open("/v1/events", f"{epoch}.2") as stream:
            blocks = await stream.take(last - 2 - (lost.last - lost.first))
        before = lost.first - 3
        gap = blocks.pop(before)
        assert (gap.event, gap.id) == ("gap", None)
        assert gap.json == {"after": f"{epoch}.{lost.first - 1}", "first_available": f"{epoch}.{lost.last + 1}"}
        check(stage, blocks, [*range(3, lost.first), *range(lost.last + 1, last + 1)])


async def test_without_a_bucket_there_is_a_gap_and_the_stream_goes_on(
    nats_server: NatsServer, own_s3_server: EmbeddedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with archived(nats_server, own_s3_server) as (stage, _, _):
        bounds, last = await stage.history.bounds(), stage.events[-1].sequence
        expected = list(range(bounds.first_in_stream, last + 1))
        async with (
            reading(nats_server, None, monkeypatch) as reader,
            reader.open("/v1/events", f"{bounds.epoch}.2") as stream,
        ):
            gap, *blocks = await stream.take(len(expected) + 1)
        assert gap.event == "gap"
        check(stage, blocks, expected)
        own_s3_server.__exit__()
        async with (
            reading(nats_server, own_s3_server.settings, monkeypatch) as reader,
            reader.open("/v1/events", f"{bounds.epoch}.2") as stream,
        ):
            gap, *blocks = await stream.take(len(expected) + 1, timeout_s=30)
        assert gap.event == "gap"
        check(stage, blocks, expected)


async def test_what_is_trimmed_while_a_client_reads_comes_from_the_archive(
    nats_server: NatsServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_back(nats_server, s3_server, monkeypatch) as (stage, jobs, reader, trimmed):
        last, epoch = stage.events[-1].sequence, (await stage.history.bounds()).epoch
        async with reader.open("/v1/events", f"{epoch}.0") as stream:
            check(stage, await stream.take(last), list(range(1, last + 1)))
            assert trimmed.is_set()
            await jobs.submit()
            [live] = await stream.take(1)
            assert live.sequence == last + 1


async def test_what_is_deleted_while_a_client_reads_is_a_gap_without_an_archive(
    nats_server: NatsServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with held_back(nats_server, s3_server, monkeypatch, bucket=False) as (stage, _, reader, trimmed):
        last, epoch = stage.events[-1].sequence, (await stage.history.bounds()).epoch
        async with reader.open("/v1/events", f"{epoch}.0") as stream:
            before = await stream.take(BATCH)
            [gap] = await stream.take(1)
            assert trimmed.is_set()
            first = (await stage.history.bounds()).first_in_stream
            assert first > BATCH + 1
            assert (gap.event, gap.id) == ("gap", None)
            assert gap.json == {"after": f"{epoch}.{BATCH}", "first_available": f"{epoch}.{first}"}
            check(stage, before, list(range(1, BATCH + 1)))
            check(stage, await stream.take(last - first + 1), list(range(first, last + 1)))
