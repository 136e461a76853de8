"""EVENTS when it is full: what is archived makes room, what is not is kept and new events are refused."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import EVENTS
from kit.bus.jetstream_api import request, stream_info
from kit.bus.lineage import Lineage
from kit.history.stream_reader import StreamReader, StreamState
from services.dispatcher.archive.stream_readers import read_by_all
from services.dispatcher.archive.stream_trimmer import StreamTrimmer, first_of_most, first_to_keep
from services.dispatcher.settings import StreamSettings
from services.notifier.webhooks.deliveries.planned_position import PlannedPosition
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.embedded import NatsServer, S3Server

pytestmark = pytest.mark.anyio
MOST_BYTES = 400_000


async def shrink(stage: ArchiveStage) -> None:
    """Limit EVENTS to the size of a few hundred events."""
    config = (await stream_info(stage.client, "EVENTS"))["config"]
    assert config["discard"] == "new", "no event that is not archived is deleted for a new one"
    answer = await request(stage.client, "STREAM.UPDATE.EVENTS", config | {"max_bytes": MOST_BYTES})
    assert "error" not in answer, answer


async def fill(stage: ArchiveStage) -> SaccadeError:
    """Publish until the stream refuses, and return the refusal."""
    while True:
        subject = f"saccade.evt.acme.job.{new_id('job')}.queued"
        try:
            await stage.store.publish(Message(subject, new_id("evt"), b'{"text":"%b"}' % (b"x" * 4000)))
        except SaccadeError as error:
            return error


async def test_a_full_stream_refuses_and_what_is_archived_makes_room(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server, segment_bytes=50_000) as stage:
        await shrink(stage)
        error = await fill(stage)
        assert (error.code, error.kind.status, error.kind.retryable) == (ErrorCode.EVENTS_FULL, 507, True)
        assert error.extra["retry_after_s"] > 0
        reader = StreamReader(stage.store)
        full = await reader.state()
        await StreamTrimmer(reader, lambda: 0, MOST_BYTES).trim()
        assert (await reader.state()).first == full.first, "nothing is archived, so nothing is deleted"
        await stage.archive_all()
        archived = (await stage.stored())[-1].last
        await StreamTrimmer(reader, lambda: archived, MOST_BYTES).trim()
        after = await reader.state()
        assert full.first < after.first <= archived + 1
        assert after.size_bytes < 0.8 * MOST_BYTES
        await stage.store.publish(Message("saccade.evt.acme.job.j.queued", new_id("evt"), b"{}"))


async def test_without_an_archive_the_oldest_events_make_room(nats_server: NatsServer, s3_server: S3Server) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await shrink(stage)
        await fill(stage)
        reader = StreamReader(stage.store)
        await StreamTrimmer(reader, lambda: None, MOST_BYTES).trim()
        assert (await reader.state()).size_bytes < 0.8 * MOST_BYTES
        await stage.store.publish(Message("saccade.evt.acme.job.j.queued", new_id("evt"), b"{}"))


async def test_the_oldest_archived_events_go_when_they_are_too_many_and_nobody_needs_them(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server, segment_bytes=5_000) as stage:
        await stage.publish(300)
        reader, begin = StreamReader(stage.store), (await StreamReader(stage.store).state()).first
        archived = 0
        needs: dict[str, int | None] = {"unfinished jobs": None}

        def trimmer(keep_hours: float = 0, *, leads: bool = True) -> StreamTrimmer:
            return StreamTrimmer(
                reader,
                lambda: archived,
                settings=StreamSettings(keep_events=100, keep_hours=keep_hours),
                needs=lambda: needs,
                read_by_all=partial(read_by_all, stage.client),
                is_leader=lambda: leads,
            )

        async def held(trimmer: StreamTrimmer) -> tuple[int, str]:
            await trimmer.trim_by_number()
            return (await reader.state()).first - begin, trimmer.held_by

        assert await held(trimmer()) == (0, "archive"), "nothing is archived"
        await stage.archive_all()
        archived = (await stage.stored())[-1].last
        assert await held(trimmer(keep_hours=1)) == (0, "age")
        assert await held(trimmer(leads=False)) == (0, "")
        needs["unfinished jobs"] = begin + 10
        assert await held(trimmer()) == (10, "unfinished jobs")
        needs["unfinished jobs"] = None

        jetstream = stage.client.jetstream()
        await jetstream.add_consumer("EVENTS", durable_name="own", ack_policy="explicit", deliver_policy="all")
        own = await jetstream.pull_subscribe_bind("own", "EVENTS")
        for message in await own.fetch(10, timeout=5):
            await message.ack_sync()
        assert await held(trimmer()) == (20, "readers"), "a service that is behind finds its events"
        await jetstream.delete_consumer("EVENTS", "own")

        epoch = (await reader.state()).lineage.current.id
        await PlannedPosition(stage.client).save(epoch, begin + 29)
        assert await held(trimmer()) == (30, "readers"), "the webhooks of these events are not planned yet"
        await PlannedPosition(stage.client).save(epoch, begin + 299)
        last = trimmer()
        assert await held(last) == (205, "")
        assert (last.surplus, last.trimmed) == (170, 175)
        assert await held(trimmer()) == (205, ""), "again changes nothing"


def test_events_are_refused_when_the_stream_is_full_and_deleted_by_age() -> None:
    assert (EVENTS.discard, EVENTS.max_age_s) == ("new", 90 * 86_400)


@given(
    st.integers(1, 1000),
    st.integers(0, 5000),
    st.integers(1, 5000),
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 6000))),
)
def test_of_too_many_events_only_those_go_that_nothing_needs(
    first: int, held: int, most: int, needs: dict[str, int | None]
) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    state = StreamState(first, first + held - 1, now if held else None, now, Lineage(), 0)
    keep, held_by = first_of_most(state, most, needs)
    if held <= most:
        assert (keep, held_by) == (None, "")
        return
    assert all(keep is None or need is None or keep <= need for need in needs.values())
    assert keep is None or first < keep <= state.last + 1
    if not held_by:
        assert keep is not None
        assert 0 <= state.last - keep + 1 <= most
    else:
        assert needs[held_by] == (keep if keep is not None else needs[held_by])


@given(
    st.integers(1, 1000), st.integers(0, 5000), st.integers(0, 2_000_000), st.one_of(st.none(), st.integers(0, 6000))
)
def test_nothing_that_is_not_archived_is_deleted_and_something_is_kept(
    first: int, held: int, size_bytes: int, archived_until: int | None
) -> None:
    now = datetime(2026, 11, 23, tzinfo=UTC)
    state = StreamState(first, first + held - 1, now if held else None, now, Lineage(), size_bytes)
    keep = first_to_keep(state, 1_000_000, archived_until)
    if keep is None:
        return
    assert size_bytes >= 800_000
    assert state.first < keep <= state.last + 1
    assert archived_until is None or keep <= archived_until + 1
