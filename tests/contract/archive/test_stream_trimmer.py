"""EVENTS when it is full: what is archived makes room, what is not is kept and new events are refused."""

from __future__ import annotations

from datetime import UTC, datetime

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
from services.dispatcher.archive.stream_trimmer import StreamTrimmer, first_to_keep
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


def test_events_are_refused_when_the_stream_is_full_and_deleted_by_age() -> None:
    assert (EVENTS.discard, EVENTS.max_age_s) == ("new", 90 * 86_400)


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
