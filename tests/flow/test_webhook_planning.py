"""When events are planned: at once, unless others of their tenant come first, or their tenant has many endpoints."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from contracts.events.base import encode
from contracts.ids import new_id
from kit.bus.event_store import StoredEvent
from services.notifier.webhooks.deliveries.planning_turns import PIECE_DELIVERIES
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
