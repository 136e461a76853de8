"""Archive writers that die at any await, or do not know of each other; streams that were set back."""

from __future__ import annotations

import asyncio
import ctypes
import random
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from contracts.errors import SaccadeError
from kit.bus.connection import declare
from kit.history.segment_store import SegmentDamaged
from kit.history.segments import Segment
from tests.harness.history.archive_stage import ArchiveStage, archive_stage, refused
from tests.harness.servers.embedded import NatsServer, S3Server
from tests.harness.servers.stream_backups import back_up, restore

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The process was killed."""


class _Steps:
    """Awaits a coroutine, and kills it at one of the points where it waits.

    It is never resumed, and never deleted either: a process that was killed runs no ``finally``.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, bool], kill_at: int | None = None) -> None:
        self.steps = 0
        self._coroutine = coroutine
        self._kill_at = kill_at

    def __await__(self) -> Generator[Any, None, bool]:
        running = self._coroutine.__await__()
        while True:
            try:
                waited_for = running.send(None)
            except StopIteration as ended:
                return bool(ended.value)
            if self.steps == self._kill_at:
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(running))
                raise Killed
            self.steps += 1
            yield waited_for


async def killed_at(stage: ArchiveStage, step: int) -> bool:
    """Let a writer run until it is killed; return whether it was."""

    async def run() -> bool:
        try:
            await _Steps(stage.writer().write_next(), step)
        except Killed:
            return True
        return False

    return await asyncio.create_task(run())  # a task of its own: what it began may cancel it later


async def assert_whole(stage: ArchiveStage) -> None:
    """Check that all segments are there, each once, each with its two records, and hold the stream's events."""
    segments = await stage.stored()
    assert [one.first for one in segments] == [1, *(one.last + 1 for one in segments[:-1])]
    chain, verbs = await stage.audit()
    assert chain.open_intents == {}
    assert verbs.count("segment_stored") == verbs.count("segment_requested") == len(segments)
    await stage.purge_archived()
    last = segments[-1].last
    assert [event async for event in stage.history.read(0, last)] == stage.events[:last]


@pytest.mark.parametrize("share", [pytest.param(12, id="some"), pytest.param(1000, id="all", marks=pytest.mark.soak)])
async def test_a_writer_that_is_killed_at_any_await_repeats_and_loses_nothing(
    nats_server: NatsServer, s3_server: S3Server, share: int
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(200)
        counted = _Steps(stage.writer().write_next())
        assert await counted
        points = sorted(random.sample(range(counted.steps), min(share, counted.steps)))
        killed = 0
        for step in points:
            await stage.publish(200)
            killed += await killed_at(stage, step)
            await stage.archive_all()
        assert killed > len(points) // 2
        await assert_whole(stage)


async def test_a_segment_without_a_record_is_adopted_when_the_stream_has_its_events_no_more(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    """A writer is killed between the object and its record, and nobody leads until retention has deleted the events."""
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(200)
        await stage.archive_all()
        before = len(await stage.stored())
        await stage.publish(200)
        step = 0
        while len(await stage.stored()) == before:
            await killed_at(stage, step)
            step += 1
        _, verbs = await stage.audit()
        assert verbs.count("segment_stored") == before, "the writer was killed before it recorded the segment"
        await stage.purge_archived()
        await stage.publish(200)
        writer = stage.writer()
        await stage.archive_all(writer)
        assert writer.lost_events == 0
        await assert_whole(stage)


async def _archive_with_retries(stage: ArchiveStage) -> int:
    """Archive all, as ``run`` does, and return how often it failed.

    rclone fails reads of an object that another writer is writing.
    """
    writer = stage.writer()
    for failed in range(100):
        try:
            await stage.archive_all(writer)
        except SaccadeError:
            await asyncio.sleep(random.uniform(0, 0.05))
        else:
            return failed
    raise AssertionError("it did not succeed")


async def test_two_writers_that_do_not_know_of_each_other_write_the_same(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1500)
        failed = sum(await asyncio.gather(*(_archive_with_retries(stage) for _ in range(3))))
        segments = await stage.stored()
        assert [one.first for one in segments] == [1, *(one.last + 1 for one in segments[:-1])]
        chain, _ = await stage.audit()
        assert len(chain.open_intents) <= failed  # the intent of a failed attempt is ended by AbandonedCommands later
        await stage.purge_archived()
        last = segments[-1].last
        assert [event async for event in stage.history.read(0, last)] == stage.events[:last]


async def test_a_writer_that_has_lost_its_lease_writes_nothing(nats_server: NatsServer, s3_server: S3Server) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(500)
        await stage.archive_all(stage.writer(leads=False))
        assert await stage.stored() == []
        assert (await stage.audit())[1] == []


async def test_an_object_of_somebody_else_under_the_name_of_a_segment_is_replaced(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    """The server overwrites although it is asked not to (rclone ignores If-None-Match): only reading back tells."""
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(200)
        await stage.archive_all()
        [stored] = await stage.stored()
        segment = await stage.segments.verified(stored)
        good = await stage.bucket.get(stored.key)
        await stage.bucket.put(stored.key, b"not a segment")
        await stage.segments.store(Segment(segment.manifest, good))
        assert await stage.bucket.get(stored.key) == good


async def test_an_audit_log_that_was_lost_does_not_lose_the_archive(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(500)
        await stage.archive_all()
        await stage.purge_archived()
        await stage.client.request("$JS.API.STREAM.DELETE.OPS", b"")
        await declare(stage.client)
        await stage.publish(500)
        writer = stage.writer()
        await stage.archive_all(writer)
        assert writer.lost_events == 0
        await stage.purge_archived()
        segments = await stage.stored()
        assert [one.first for one in segments] == [1, *(one.last + 1 for one in segments[:-1])]
        assert [event async for event in stage.history.read(0, 1000)] == stage.events


@pytest.mark.parametrize("fork_is_archived", [True, False])
async def test_a_lost_branch_is_never_read(
    nats_server: NatsServer, s3_server: S3Server, *, fork_is_archived: bool
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(400)
        backup = await back_up(stage.client, "EVENTS")
        await stage.publish(400)
        if fork_is_archived:
            await stage.archive_all()
        lost = stage.events[400:]
        await restore(stage.client, backup)
        await declare(stage.client)
        stage.events = stage.events[:400]
        await stage.publish(500)
        assert len((await stage.history.bounds()).lineage.epochs) == 2
        await stage.archive_all()
        epochs = (await stage.history.bounds()).lineage.epochs
        newest = await stage.segments.of_epoch(epochs[-1].id)
        await stage.purge_before(newest[-1].last + 1)
        assert newest[0].first == 401
        found = [event async for event in stage.history.read(0, 900)]
        assert found == stage.events
        assert not {event.body for event in found} & {event.body for event in lost}
        counts = await stage.history.count(0, 900)
        assert sum(counts.values()) == 900


async def test_a_damaged_segment_of_a_lost_branch_takes_nothing_of_what_followed_with_it(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(400)
        backup = await back_up(stage.client, "EVENTS")
        await stage.publish(400)
        await stage.archive_all()
        await restore(stage.client, backup)
        await declare(stage.client)
        await stage.publish(500)
        await stage.archive_all()
        lost, newer = [
            await stage.segments.of_epoch(epoch.id) for epoch in (await stage.history.bounds()).lineage.epochs
        ]
        (across,) = [segment for segment in lost if segment.first <= 400 < segment.last]
        await stage.purge_before(newer[-1].last + 1)
        await stage.bucket.put(across.key, (await stage.bucket.get(across.key))[:100])
        _, error = await refused(stage.history.read(across.first - 1, 900))
        assert isinstance(error, SegmentDamaged)
        assert error.extra["first"] == 401
