"""When events are planned: at once, unless others of their tenant come first, or their tenant has many endpoints."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from contracts.audit import SYSTEM
from contracts.erasure import sha256_of
from contracts.events.base import encode
from contracts.events.erasure import ErasureCompleted
from contracts.ids import new_id
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.event_ranges import EventRanges
from services.notifier.webhooks.deliveries.planning_turns import PIECE_DELIVERIES
from services.notifier.webhooks.endpoints.endpoint import Endpoint
from tests.harness.servers.embedded import HOST, EmbeddedNats, free_port
from tests.harness.streams.notifier import publisher, submitted, succeeded
from tests.harness.webhooks.delivery import RunningWebhooks, run_webhooks
from tests.harness.webhooks.listeners import listening

pytestmark = pytest.mark.anyio


def arrive(here: RunningWebhooks, tenant: str = "local", job_id: str | None = None) -> int:
    """Pass an event in as the tail does, of a job that is new or ends; return its sequence."""
    recent = here.webhooks.recent_events
    data = succeeded() if job_id else submitted()
    message = encode(data, tenant=tenant, subject_id=job_id or new_id("job"), source="/test")
    stored = StoredEvent(recent.head + 1, message.subject, message.body)
    recent.on_event(stored)
    return stored.sequence


async def test_an_event_that_nothing_is_before_is_planned_and_attempted_when_it_arrives(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as good:
        endpoint = await here.make(good.url)
        await bus.submit()
        await here.settled(endpoint.id, 1)
        await here.until(lambda: not here.webhooks.engine.attempting)
        sequence = arrive(here)
        assert here.states(endpoint.id) == ["delivered", "pending"]
        assert here.webhooks.engine.attempting == 1
        assert here.webhooks.file.planned == sequence
        # Of those that arrive with it, the engine attempts one after another, by turns for the tenants.
        for _ in range(9):
            arrive(here)
        assert here.webhooks.engine.attempting == 1
        await here.settled(endpoint.id, 11)
        assert sorted(got.sequence for got in good.got) == list(range(1, 12))


async def test_the_events_of_a_tenant_with_many_endpoints_wait_and_those_of_others_do_not(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    away = f"http://{HOST}:{free_port()}/"
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as good:
        many = [await here.make(away, tenant="hostile") for _ in range(3 * PIECE_DELIVERIES)]
        quiet = await here.make(good.url, tenant="quiet")
        await bus.submit("quiet")
        await here.settled(quiet.id, 1)
        arrive(here, "hostile")
        assert not any(here.states(endpoint.id) for endpoint in many)
        arrive(here, "quiet")
        assert here.states(quiet.id) == ["delivered", "pending"]
        assert here.webhooks.file.planned == 1, "the event of the other tenant is not planned yet"
        await here.until(lambda: all(here.states(endpoint.id) == ["pending"] for endpoint in many))
        await here.settled(quiet.id, 2)


async def test_events_that_arrive_while_an_endpoint_is_new_keep_their_order(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as late:
        job_id = await bus.submit()
        await bus.start(job_id)
        await here.until(lambda: here.webhooks.projector.file.planned == 4)
        # It was made before the first event, by another notifier, and this one hears of it now.
        endpoint = await here.make(late.url, since=0, ordered=True)
        arrive(here, job_id=job_id)
        assert not here.states(endpoint.id), "the earlier ones are planned first"
        await here.settled(endpoint.id, 5)
        assert [got.sequence for got in late.got] == [1, 2, 3, 4, 5]


class HeldRanges(EventRanges):
    """Holds what was read for an endpoint before its second event."""

    def __init__(self, ranges: EventRanges) -> None:
        super().__init__(ranges._events, ranges._history)
        self.held, self.released = asyncio.Event(), asyncio.Event()

    async def since_creation(self, endpoint: Endpoint, until: int) -> AsyncGenerator[StoredEvent, None]:
        events = [stored async for stored in super().since_creation(endpoint, until)]
        for place, stored in enumerate(events):
            if place == 1:
                self.held.set()
                await self.released.wait()
            yield stored


async def test_what_is_erased_while_an_endpoint_s_earlier_events_are_planned_is_not_planned(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as late:
        kept = await bus.submit()
        erased = await bus.submit()
        await bus.say(erased, succeeded())
        await bus.say(kept, succeeded())
        await here.until(lambda: here.webhooks.file.planned >= 4)
        last = here.webhooks.file.planned
        projector = here.webhooks.projector
        ranges = HeldRanges(projector._ranges)
        projector._earlier._ranges = ranges
        endpoint = await here.make(late.url, since=0)
        await ranges.held.wait()
        await bus.client.jetstream().purge_stream("EVENTS", subject=f"saccade.evt.local.job.{erased}.>")
        completed = ErasureCompleted(
            scope="job",
            tenant_sha256=sha256_of("local"),
            until_sequence=last,
            until_time=datetime.now(UTC),
            jobs_sha256=[sha256_of(erased)],
        )
        await bus.store.publish(encode(completed, tenant=SYSTEM, subject_id=new_id("ers"), source="/test"))
        await here.until(lambda: here.webhooks.file.planned > last)
        ranges.released.set()
        await here.until(lambda: not here.webhooks.projector.lacks_earlier)
        rows = here.view.list(endpoint.id, limit=99)[0]
        assert {row.event_subject for row in rows} == {kept}


async def test_a_burst_of_events_is_planned_in_pieces_and_in_order(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as good:
        endpoint = await here.make(good.url, ordered=True)
        await bus.submit()
        await here.settled(endpoint.id, 1)
        await here.until(lambda: not here.webhooks.engine.attempting)
        sequences = [arrive(here) for _ in range(500)]
        assert len(here.states(endpoint.id)) <= 9, "the loop has other work, and other tenants"
        await here.until(lambda: here.webhooks.file.planned == sequences[-1])
        assert len(here.states(endpoint.id)) == 501
        await asyncio.sleep(0)
        arrive(here)
        assert len(here.states(endpoint.id)) == 502, "planned at once again"


async def test_a_disk_that_fails_when_an_event_arrives_loses_no_delivery(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as good:
        endpoint = await here.make(good.url)
        await bus.submit()
        await here.settled(endpoint.id, 1)
        await here.until(lambda: not here.webhooks.engine.attempting)
        here.webhooks.file._database.rollback()  # as SQLite does when the disk is full
        with pytest.raises(sqlite3.OperationalError):
            here.webhooks.file.write("DELETE FROM health")
        for _ in range(3):
            await bus.submit()
        async with asyncio.timeout(20):
            await good.wait(4)
        await here.settled(endpoint.id, 4)
