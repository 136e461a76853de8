"""Event store on real NATS servers: conditions, one stored event per id, order, restarts."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
from nats.js import JetStreamContext
from nats.js.api import PubAck

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import Message, encode
from contracts.events.job import JobCancelRequested, JobQueued
from contracts.ids import new_id
from contracts.streams import EVENTS, LIVE_EVENTS, Stream, aggregate
from kit.bus.connection import connect, declare, epoch_of, request
from kit.bus.event_store import Conflict, EventStore, StoredEvent, TooManyResults
from kit.bus.tail import EventTail
from kit.settings import NatsSettings
from kit.tasks import end
from tests.harness.network.shaping_proxy import Shape, ShapingProxy
from tests.harness.servers.embedded import NatsServer

pytestmark = pytest.mark.anyio
TENANT = "acme"


@asynccontextmanager
async def opened(server: NatsServer) -> AsyncIterator[EventStore]:
    client = await connect(server.settings, "test")
    try:
        await declare(client, server.settings.replicas)
        yield EventStore(client)
    finally:
        await client.close()


def queued(job_id: str, position: int = 1, event_id: str | None = None) -> Message:
    return encode(JobQueued(position=position), tenant=TENANT, subject_id=job_id, source="/test", event_id=event_id)


def cancel(job_id: str) -> Message:
    return encode(JobCancelRequested(by="test"), tenant=TENANT, subject_id=job_id, source="/test")


async def test_one_of_two_concurrent_writers_wins(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        job_id = new_id("job")
        among = aggregate(TENANT, "job", job_id)
        first = await store.publish(queued(job_id), after=0, among=among)
        outcomes = await asyncio.gather(
            *(store.publish(write(job_id), after=first, among=among) for write in [queued, cancel] * 5),
            return_exceptions=True,
        )
        won = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert len(won) == 1
        assert all(
            isinstance(outcome, Conflict)
            for outcome in outcomes
            if outcome is not won[0] and not isinstance(outcome, int)
        )
        newest = max(stored.sequence for stored in await store.load(among))
        assert newest == won[0]


async def test_only_one_first_event_is_stored(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        job_id = new_id("job")
        among = aggregate(TENANT, "job", job_id)
        await store.publish(queued(job_id), after=0, among=among)
        with pytest.raises(Conflict):
            await store.publish(cancel(job_id), after=0, among=among)
        assert len(await store.load(among)) == 1


async def test_a_condition_ignores_other_jobs(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        mine, other = new_id("job"), new_id("job")
        first = await store.publish(queued(mine))
        await store.publish(queued(other))
        second = await store.publish(cancel(mine), after=first, among=aggregate(TENANT, "job", mine))
        assert second > first


async def test_an_event_id_is_stored_once(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        job_id = new_id("job")
        message = queued(job_id, event_id=f"{job_id}.queued")
        first = await store.publish(message)
        assert await store.publish(message) == first
        found = [stored async for stored in store.history(first - 1, aggregate(TENANT, "job", job_id))]
        assert [stored.sequence for stored in found] == [first]


async def test_load_returns_the_newest_event_of_each_subject_in_order(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        job_id = new_id("job")
        await store.publish(queued(job_id, 1))
        asked = await store.publish(cancel(job_id))
        last = queued(job_id, 2)
        newest = await store.publish(last)
        for subjects in (aggregate(TENANT, "job", job_id), f"saccade.evt.*.job.{job_id}.*"):
            found = await store.load(subjects)
            assert [stored.sequence for stored in found] == [asked, newest]
            assert found[-1].body == last.body
        assert await store.load(aggregate(TENANT, "job", new_id("job"))) == []


async def test_history_is_complete_across_batches(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        job_id = new_id("job")
        sent = [queued(job_id, position) for position in range(1203)]
        for start in range(0, len(sent), 100):
            await asyncio.gather(*(store.publish(message) for message in sent[start : start + 100]))
        found = [stored async for stored in store.history(before)]
        assert [stored.sequence for stored in found] == list(range(before + 1, before + 1 + len(sent)))
        assert {stored.body for stored in found} == {message.body for message in sent}
        batch, left = await store.batch(before, size=500)
        assert (len(batch), left) == (500, len(sent) - 500)


async def test_other_tasks_run_while_a_batch_is_read(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def taking(sequence: int, *rest: Any) -> StoredEvent:
        taken.append(sequence)
        return StoredEvent(sequence, *rest)

    async with opened(nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        await asyncio.gather(*(store.publish(queued(new_id("job"))) for _ in range(400)))
        monkeypatch.setattr("kit.bus.event_store.StoredEvent", taking)
        reading, seen = asyncio.ensure_future(store.batch(before, size=400)), [0]
        while not reading.done():
            await asyncio.sleep(0)
            seen.append(len(taken))
        assert len((await reading)[0]) == 400
        assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 20


async def test_a_publish_survives_a_killed_server(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        job_id = new_id("job")
        first = await store.publish(queued(job_id))
        any_bus.kill()
        publishing = asyncio.create_task(store.publish(cancel(job_id), deadline_s=60))
        await asyncio.sleep(0.3)
        assert not publishing.done()
        await asyncio.to_thread(any_bus.start)
        assert await publishing == first + 1


async def test_an_unavailable_server_is_reported(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        any_bus.kill()
        try:
            with pytest.raises(SaccadeError) as raised:
                await store.publish(queued(new_id("job")), deadline_s=0.3)
        finally:
            await asyncio.to_thread(any_bus.start)
        assert raised.value.code is ErrorCode.BUS_UNAVAILABLE


async def test_declaring_twice_changes_nothing_and_a_new_limit_keeps_the_events(any_bus: NatsServer) -> None:
    async with opened(any_bus) as store:
        sequence = await store.publish(queued(new_id("job")))
        before = await epoch_of(store.client, "EVENTS")
        await declare(store.client, any_bus.settings.replicas)
        assert await epoch_of(store.client, "EVENTS") == before
        longer = Stream(**{**vars(EVENTS), "max_age_s": EVENTS.max_age_s + 60})
        await declare(store.client, any_bus.settings.replicas, [longer])
        assert await epoch_of(store.client, "EVENTS") == (before[0], sequence)
        info = await request(store.client, "STREAM.INFO.EVENTS", {})
        assert info["config"]["max_age"] == longer.max_age_s * 1_000_000_000


async def test_a_publish_that_was_not_stored_is_a_failed_check_until_the_next_that_is(nats_server: NatsServer) -> None:
    async with opened(nats_server) as store:
        await request(
            store.client, "STREAM.CREATE.SMALL", {"name": "SMALL", "subjects": ["small"], "max_msg_size": 100}
        )
        small = EventStore(store.client, "SMALL")
        small.check_writes()
        with pytest.raises(SaccadeError):
            await small.publish(Message(subject="small", id="1", body=bytes(200)))
        with pytest.raises(SaccadeError, match="did not store"):
            small.check_writes()
        await small.publish(Message(subject="small", id="2", body=bytes(20)))
        small.check_writes()


async def test_more_subjects_than_one_request_may_name_are_all_loaded(nats_server: NatsServer) -> None:
    async with opened(nats_server) as store:
        jobs = [new_id("job") for _ in range(1_100)]
        stored = await asyncio.gather(*(store.publish(queued(job_id), deadline_s=30) for job_id in jobs))
        newer = await asyncio.gather(*(store.publish(queued(job_id, 2), deadline_s=30) for job_id in jobs[:5]))
        found = await store.load(aggregate(TENANT, "job", "*"), with_headers=True)
        assert [event.sequence for event in found] == sorted([*stored[5:], *newer])
        assert all(event.headers["Nats-Time-Stamp"] for event in found)
        before = await store.load(aggregate(TENANT, "job", "*"), up_to=max(stored))
        assert [event.sequence for event in before] == sorted(stored)


async def test_too_many_results_are_an_answer_that_is_not_asked_for_again(nats_server: NatsServer) -> None:
    async with opened(nats_server) as store:
        await asyncio.gather(*(store.publish(queued(new_id("job")), deadline_s=30) for _ in range(1_025)))
        began = asyncio.get_running_loop().time()
        with pytest.raises(TooManyResults):
            await store._get({"multi_last": ["saccade.evt.>"]}, deadline_s=5.0)
        assert asyncio.get_running_loop().time() - began < 1.0


async def test_the_time_of_storage_is_the_same_in_the_live_copy_and_in_the_history(any_bus: NatsServer) -> None:
    """A fold that depends on it has the same result whichever way an event came."""
    async with opened(any_bus) as store:
        _, before = await epoch_of(store.client, EVENTS.name)
        live: list[StoredEvent] = []
        tail = EventTail(store, live.append, live=LIVE_EVENTS, name="test")
        task = asyncio.create_task(tail.run(before))
        try:
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            last = max([await store.publish(queued(new_id("job"))) for _ in range(20)])
            assert await tail.wait_for(last, 30)
        finally:
            await end(task)
        history = [stored async for stored in store.history(before)]
        assert [stored.timestamp for stored in live] == [stored.timestamp for stored in history]
        times = [stored.stored_at for stored in history]
        assert all(time is not None and abs((datetime.now(UTC) - time).total_seconds()) < 600 for time in times)


class CutOffAtFirst(EventStore):
    """A store whose first read is answered by a leader that was cut off before the event was stored."""

    reads = 0

    async def load(self, *given: Any, **more: Any) -> list[StoredEvent]:
        self.reads += 1
        return [] if self.reads == 1 else await super().load(*given, **more)


class LosesTheFirstAnswer:
    """A JetStream context whose first publish is stored, and whose acknowledgement does not arrive."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._jetstream, self._lost = jetstream, False

    async def publish(self, *given: Any, **more: Any) -> PubAck:
        ack = await self._jetstream.publish(*given, **more)
        if not self._lost:
            self._lost = True
            raise TimeoutError
        return ack


async def test_a_read_that_lacks_what_the_server_has_named_is_repeated(any_bus: NatsServer) -> None:
    """Two nodes may lead for a moment: one says that the event is stored, and the other one does not have it."""
    async with opened(any_bus) as store:
        lagging, job_id = CutOffAtFirst(store.client), new_id("job")
        lagging._jetstream = LosesTheFirstAnswer(store.client.jetstream())  # type: ignore[assignment]
        sequence = await lagging.publish(queued(job_id), after=0, among=aggregate("acme", "job", job_id))
        assert [stored.sequence for stored in await store.load(aggregate("acme", "job", job_id))] == [sequence]
        assert lagging.reads == 2


async def test_a_batch_that_takes_long_over_a_slow_line_is_read_once(nats_server: NatsServer) -> None:
    """Two MB a second and a batch of eight; asked for again and again, it would never arrive."""
    slow = Shape(delay_s=0.5, stall_every_s=0)
    async with opened(nats_server) as store, ShapingProxy(slow, random.Random(0)) as proxy:
        jobs = [new_id("job") for _ in range(130)]
        for job_id in jobs:
            wanted = queued(job_id)
            await store.publish(Message(wanted.subject, wanted.id, b"x" * 60_000))
        port = await proxy.to(urlsplit(nats_server.settings.url).port or 0)
        client = await connect(NatsSettings(url=f"nats://127.0.0.1:{port}"), "slow")
        try:
            found, remaining = await EventStore(client).batch(0, aggregate(TENANT, "job", "*"))
            received = client.stats["in_bytes"]
        finally:
            await client.close()
    assert [stored.subject.split(".")[4] for stored in found][-len(jobs) :] == jobs
    assert remaining == 0
    assert received < 1.5 * sum(len(stored.body) for stored in found), "nothing was sent twice"
