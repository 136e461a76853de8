"""History of a stream on a real NATS server: ranges, states as of a sequence, times and exact counts."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from nats.aio.msg import Msg

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import Message
from contracts.ids import new_id
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore, StoredEvent
from kit.history.history import History, HistoryEvent
from kit.history.subjects import matches_any
from kit.tasks import end
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio
VERBS = ["submitted", "queued", "starting", "started", "succeeded"]
JOBS = 60


@pytest.fixture(scope="module")
def history_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as server:
        yield server


@asynccontextmanager
async def filled(server: NatsServer) -> AsyncIterator[tuple[EventStore, list[HistoryEvent]]]:
    """Open a store with the events of some jobs of two tenants, mixed, stored once for all tests of the file."""
    client = await connect(server.settings, "test")
    try:
        await declare(client)
        store = EventStore(client)
        if not (await History(store).bounds()).last:
            await _publish(store)
        yield store, [_as_history(stored) async for stored in _with_headers(store)]
    finally:
        await client.close()


async def _publish(store: EventStore) -> None:
    jobs = [(random.choice(["acme", "beta"]), new_id("job"), iter(VERBS)) for _ in range(JOBS)]
    while jobs:
        tenant, job_id, verbs = random.choice(jobs)
        verb = next(verbs, None)
        if verb is None:
            jobs = [job for job in jobs if job[1] != job_id]
            continue
        body = b'{"n":%d}' % random.randrange(10)
        await store.publish(Message(f"saccade.evt.{tenant}.job.{job_id}.{verb}", new_id("evt"), body))


async def _with_headers(store: EventStore) -> AsyncIterator[StoredEvent]:
    after, remaining = 0, 1
    while remaining:
        found, remaining = await store.batch(after, with_headers=True)
        for stored in found:
            after = stored.sequence
            yield stored


def _as_history(stored: StoredEvent) -> HistoryEvent:
    headers = stored.headers
    return HistoryEvent(
        stored.sequence, stored.subject, headers["Nats-Time-Stamp"], headers["Nats-Msg-Id"], stored.body
    )


def _selections(events: list[HistoryEvent]) -> list[tuple[str, ...]]:
    one = random.choice(events)
    return [
        (">",),
        (f"saccade.evt.{one.tenant}.>",),
        ("saccade.evt.*.job.*.succeeded",),
        (f"saccade.evt.*.job.{one.subject_id}.*",),
        ("saccade.evt.acme.job.*.queued", "saccade.evt.beta.job.*.started"),
        ("saccade.evt.acme.*.*.queued", f"saccade.evt.*.job.{one.subject_id}.*"),  # they overlap
        ("saccade.evt.nobody.>",),
    ]


async def test_ranges_counts_and_states_are_those_of_the_stream(history_nats: NatsServer) -> None:
    async with filled(history_nats) as (store, events):
        history = History(store)
        bounds = await history.bounds()
        assert (bounds.first, bounds.first_in_stream, bounds.last) == (1, 1, len(events))
        for subjects in _selections(events) * 5:
            after = random.randrange(bounds.last)
            until = random.randint(after, bounds.last)
            expected = [e for e in events[after:until] if matches_any(subjects, e.subject)]
            assert [e async for e in history.read(after, until, subjects)] == expected
            assert await history.count(after, until, subjects) == dict(Counter(e.type for e in expected))
            newest = {e.subject: e for e in events[:until] if matches_any(subjects[:1], e.subject)}
            assert await history.as_of(subjects[0], until) == sorted(newest.values(), key=lambda e: e.sequence)


async def test_a_time_is_the_sequence_before_it(history_nats: NatsServer) -> None:
    async with filled(history_nats) as (store, events):
        history = History(store)
        for event in [events[0], *random.sample(events, 10), events[-1]]:
            before = await history.sequence_before(event.time)
            assert before == max([0, *(e.sequence for e in events if e.time < event.time)])
        assert await history.sequence_before(events[-1].time + timedelta(hours=1)) == len(events)
        assert await history.sequence_before(events[0].time - timedelta(hours=1)) == 0


async def test_a_count_is_exact_while_the_stream_grows(history_nats: NatsServer) -> None:
    async with filled(history_nats) as (store, events):
        growing = asyncio.ensure_future(_grow(store))
        try:
            for _ in range(20):
                after = random.randrange(len(events))
                found = await History(store).count(after, len(events))
                assert sum(found.values()) == len(events) - after
        finally:
            await end(growing)


async def _grow(store: EventStore) -> None:
    while True:
        await store.publish(Message(f"saccade.evt.acme.job.{new_id('job')}.queued", new_id("evt"), b"{}"))


async def test_what_is_not_stored_any_more_is_an_error_and_no_silent_gap(nats_server: NatsServer) -> None:
    async with filled(nats_server) as (store, events):
        await request(store.client, "STREAM.PURGE.EVENTS", {"seq": 101})
        history = History(store)
        assert (await history.bounds()).first == 101
        assert [e async for e in history.read(100, 150)] == events[100:150]
        for reading in (history.count(0, 150), anext(history.read(99, 150))):
            with pytest.raises(SaccadeError, match="to 100 are not stored any more") as refused:
                await reading
            assert refused.value.code is ErrorCode.HISTORY_EXPIRED


async def test_a_count_of_a_type_that_this_version_does_not_know_is_exact(history_nats: NatsServer) -> None:
    async with filled(history_nats) as (store, events):
        for _ in range(3):
            await store.publish(Message(f"saccade.evt.acme.job.{new_id('job')}.foreseen", new_id("evt"), b"{}"))
        expected = dict(Counter(event.type for event in events)) | {"job.foreseen": 3}
        for subjects in ((">",), ("saccade.evt.*.*.*.*",)):
            assert await History(store).count(0, len(events) + 3, subjects) == expected
        assert await History(store).count(0, len(events) + 3, ("saccade.evt.*.job.*.foreseen",)) == {"job.foreseen": 3}


async def test_a_caller_says_how_many_events_are_read_at_once(history_nats: NatsServer) -> None:
    async with filled(history_nats) as (store, events):
        asked: list[int] = []

        async def on_request(message: Msg) -> None:
            asked.append(json.loads(message.data)["batch"])

        await store.client.subscribe("$JS.API.DIRECT.GET.EVENTS", cb=on_request)
        sizes = itertools.chain([5, 7], itertools.repeat(100))
        read = History(store).read(0, 60, batch_events=lambda: next(sizes))
        assert [event.sequence async for event in read] == [event.sequence for event in events[:60]]
        await store.client.flush()
        assert asked == [5, 7, 48]


async def test_types_that_were_found_are_counted_first_the_next_time(history_nats: NatsServer) -> None:
    async with filled(history_nats) as (store, _):
        for verb in ("job.queued", "upload.created"):
            noun, _, name = verb.partition(".")
            await store.publish(Message(f"saccade.evt.gamma.{noun}.{new_id('job')}.{name}", new_id("evt"), b"{}"))
        counted: list[str] = []

        async def on_count(message: Msg) -> None:
            counted.append(message.subject)

        await store.client.subscribe("$JS.API.CONSUMER.CREATE.>", cb=on_count)
        history, taken = History(store), []
        last = (await history.bounds()).last
        for _ in range(2):
            counted.clear()
            assert await history.count(0, last, ("saccade.evt.gamma.*.*.*",)) == {"job.queued": 1, "upload.created": 1}
            await store.client.flush()
            taken.append(len(counted))
        assert taken[1] < taken[0] / 2
