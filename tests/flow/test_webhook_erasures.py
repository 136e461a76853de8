"""Attempts under way while their tenant, job or endpoint is erased or deleted: nothing of it comes back."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from contracts.audit import SYSTEM
from contracts.erasure import sha256_of
from contracts.events.base import encode
from contracts.events.delivery import WebhookFailed, WebhookRedeliveryRequested
from contracts.events.erasure import ErasureCompleted
from contracts.ids import new_id
from contracts.streams import DELIVERIES, EVENTS, WEBHOOKS
from kit.bus.connection import epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import Publisher, publisher
from tests.harness.webhooks.delivery import RunningWebhooks, run_webhooks
from tests.harness.webhooks.listeners import Respond, WebhookListener, listening

pytestmark = pytest.mark.anyio


def gate() -> tuple[asyncio.Event, Respond]:
    """Return how a receiver fails, and when."""
    opened = asyncio.Event()

    async def respond(one: WebhookListener, request: web.Request) -> web.StreamResponse:
        await opened.wait()
        return web.Response(status=500, text="canary")

    return opened, respond


async def delete_all(bus: Publisher, tenant: str) -> None:
    """Delete a tenant's messages, as the dispatcher that erases it does."""
    for stream, kind in ((WEBHOOKS, "whk"), (DELIVERIES, "dlv"), (EVENTS, "evt")):
        await bus.client.jetstream().purge_stream(stream.name, subject=f"saccade.{kind}.{tenant}.>")


async def announce(bus: Publisher, tenant: str, **fields: Any) -> int:
    """Publish that a tenant was erased, or a job of it; return the event's sequence."""
    _, last = await epoch_of(bus.client, EVENTS.name)
    given = {"scope": "tenant", "until_sequence": last, "until_time": datetime.now(UTC)} | fields
    data = ErasureCompleted(tenant_sha256=sha256_of(tenant), **given)
    return await bus.store.publish(encode(data, tenant=SYSTEM, subject_id=new_id("ers"), source="/test"))


def failure(endpoint_id: str, sequence: int, job_id: str, tenant: str = "acme") -> Any:
    """Return the record of a failed attempt, after which another one follows."""
    now = datetime.now(UTC)
    data = WebhookFailed(
        endpoint_id=endpoint_id,
        event_id=new_id("evt"),
        event_type="job.submitted",
        event_subject=job_id,
        sequence=sequence,
        attempt=1,
        status=500,
        latency_ms=1,
        response_excerpt="canary",
        url_origin="https://example.com:443",
        error="http_status",
        next_attempt_at=now + timedelta(seconds=5),
    )
    return encode(data, tenant=tenant, subject_id=endpoint_id, source="/notifier", time=now)


async def records_of(bus: Publisher) -> list[StoredEvent]:
    found, _ = await EventStore(bus.client, DELIVERIES.name).batch(0)
    return found


def text_of(here: RunningWebhooks) -> str:
    return repr(here.webhooks.file.all_rows())


async def folded(here: RunningWebhooks, erasure: int) -> None:
    await here.until(lambda: here.webhooks.file.planned >= erasure and not here.webhooks.file.held())


async def test_an_attempt_under_way_brings_no_row_and_no_record_of_an_erased_tenant_back(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    settings, (opened, respond) = nats_server.settings, gate()
    async with publisher(settings) as bus, listening(respond=respond) as slow:
        async with run_webhooks(settings, tmp_path / "a") as first, run_webhooks(settings, tmp_path / "b") as second:
            endpoint = await first.make(slow.url, tenant="acme")
            await first.make(slow.url, tenant="acme", ordered=True)
            job_id = await bus.submit("acme")
            await slow.wait(2)
            await delete_all(bus, "acme")
            erasure = await announce(bus, "acme")
            for here in (first, second):
                await folded(here, erasure)
            opened.set()
            await first.until(lambda: not first.webhooks.engine.attempting + second.webhooks.engine.attempting)
            await bus.submit()
            for here in (first, second):
                await folded(here, erasure + 1)
                assert "acme" not in text_of(here)
                assert endpoint.id not in text_of(here)
            assert await records_of(bus) == []
        for folder in ("a", "b", "lost"):
            async with run_webhooks(settings, tmp_path / folder) as again:
                await again.webhooks.projector.wait_until_current()
                assert not any(text in text_of(again) for text in ("acme", job_id, "canary"))


async def test_a_record_that_the_last_look_of_an_erasure_missed_is_deleted(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    """Between the dispatcher's last look and its event, and by a notifier that has not read that event yet."""
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as good:
        async with run_webhooks(settings, tmp_path) as here:
            endpoint = await here.make(good.url, tenant="acme")
            kept = await here.make(good.url)
            await bus.submit()
            job_id = await bus.submit("acme")
            await here.settled(endpoint.id, 1)
            await here.settled(kept.id, 1)
            await delete_all(bus, "acme")
            records = EventStore(bus.client, DELIVERIES.name)
            missed = await records.publish(failure(endpoint.id, 2, job_id))
            await here.until(lambda: here.webhooks.file.recorded >= missed)
            erasure = await announce(bus, "acme")
            await folded(here, erasure)
            late = await records.publish(failure(endpoint.id, 2, job_id))
            await here.until(lambda: here.webhooks.file.recorded >= late and not here.webhooks.file.held())
            assert "acme" not in text_of(here)
            assert [stored.subject.split(".")[2] for stored in await records_of(bus)] == ["local"]
            assert here.states(kept.id) == ["delivered"]
            # Of a new tenant of that name, everything stays.
            again = await here.make(good.url, tenant="acme")
            await bus.submit("acme")
            await here.settled(again.id, 1)
        later = await records.publish(failure(endpoint.id, 2, job_id))
        async with run_webhooks(settings, tmp_path / "lost") as here:
            await here.until(lambda: here.webhooks.file.recorded >= later and not here.webhooks.file.held())
            assert not here.states(endpoint.id)
            await here.settled(again.id, 1)
        assert [stored.subject.split(".")[2] for stored in await records_of(bus)] == ["local", "acme"]


async def test_a_notifier_that_dies_before_it_has_deleted_a_record_deletes_it_after_its_start(
    nats_server: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus:
        records = EventStore(bus.client, DELIVERIES.name)
        async with run_webhooks(settings, tmp_path) as here:
            job_id = await bus.submit("acme")
            missed = await records.publish(failure("whk_acme", 1, job_id))
            await here.until(lambda: here.webhooks.file.recorded >= missed)
            await delete_all_but_records(bus, "acme")
            stream = here.webhooks.projector._erased._records
            monkeypatch.setattr(stream, "stream", "NONE")  # a server that does not delete it
            erasure = await announce(bus, "acme")
            await here.until(lambda: here.webhooks.file.planned >= erasure)
            assert here.webhooks.file.held(), "nothing is committed meanwhile"
        assert len(await records_of(bus)) == 1
        async with run_webhooks(settings, tmp_path) as here:
            await folded(here, erasure)
            assert "acme" not in text_of(here)
        assert await records_of(bus) == []


async def delete_all_but_records(bus: Publisher, tenant: str) -> None:
    await bus.client.jetstream().purge_stream(EVENTS.name, subject=f"saccade.evt.{tenant}.>")


async def test_an_attempt_under_way_brings_no_row_and_no_record_of_an_erased_job_back(
    nats_server: EmbeddedNats,
) -> None:
    settings, (opened, respond) = nats_server.settings, gate()
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(respond=respond) as slow:
        endpoint = await here.make(slow.url)
        erased, kept = await bus.submit(), await bus.submit()
        await slow.wait(2)
        await bus.client.jetstream().purge_stream(EVENTS.name, subject=f"saccade.evt.local.job.{erased}.>")
        await folded(here, await announce(bus, "local", scope="job", jobs_sha256=[sha256_of(erased)]))
        opened.set()
        await here.until(lambda: not here.webhooks.engine.attempting)
        assert [row.event_subject for row in here.view.list(endpoint.id)[0]] == [kept]
        assert len(await records_of(bus)) == 1
        assert erased not in text_of(here)


async def test_a_tenant_that_is_erased_while_its_endpoint_s_earlier_events_are_planned_leaves_no_row(
    nats_server: EmbeddedNats,
) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening() as good:
        endpoint = await here.make(good.url, tenant="acme")
        await here.until(lambda: not here.webhooks.projector.lacks_earlier)
        record = encode(
            WebhookRedeliveryRequested(endpoint_id=endpoint.id, since_sequence=0),
            tenant="acme",
            subject_id=endpoint.id,
            source="/notifier",
        )
        await delete_all(bus, "acme")
        await folded(here, await announce(bus, "acme"))
        here.webhooks.projector.receivers.add_redelivery(1, record.body)
        here.webhooks.projector.on_endpoint(endpoint)  # known late, by a notifier that is about to restart
        await here.until(lambda: not here.webhooks.projector.lacks_earlier)
        await here.until(lambda: here.webhooks.projector.receivers.next_redelivery() is None)
        assert endpoint.id not in text_of(here)


async def test_an_attempt_under_way_leaves_no_failures_of_an_endpoint_that_is_deleted(
    nats_server: EmbeddedNats,
) -> None:
    settings, (opened, respond) = nats_server.settings, gate()
    async with publisher(settings) as bus, run_webhooks(settings) as here, listening(respond=respond) as slow:
        endpoint = await here.make(slow.url)
        await bus.submit()
        await slow.wait(1)
        await here.change(endpoint, enabled=False, deleted=True)
        await here.until(lambda: not here.webhooks.projector.lacks_earlier)
        opened.set()
        await here.until(lambda: here.view.attempts(endpoint.id, 1))
        assert here.states(endpoint.id) == ["cancelled"]
        assert here.webhooks.projector.receivers.failing_receivers() == []


async def test_a_notifier_without_a_view_sends_after_the_newest_record_was_erased(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, listening() as good:
        async with run_webhooks(settings) as here:
            mine, erased = await here.make(good.url), await here.make(good.url, tenant="acme")
            await bus.submit()
            await here.settled(mine.id, 1)
            await bus.submit("acme")
            await here.settled(erased.id, 1)
        await delete_all(bus, "acme")
        await announce(bus, "acme")
        async with run_webhooks(settings) as here:
            await bus.submit()
            await here.settled(mine.id, 2)


async def test_an_attempt_whose_record_is_deleted_before_it_is_read_ends(nats_server: EmbeddedNats) -> None:
    settings = nats_server.settings
    async with publisher(settings) as bus, run_webhooks(settings) as here:
        projector = here.webhooks.projector
        await here.until(lambda: here.webhooks.engine.active)
        waiting = [asyncio.ensure_future(projector.wait_for_record(record)) for record in (1, 2)]
        await asyncio.sleep(0)
        record = failure("whk_a", 1, await bus.submit())
        # As the tail does that has missed the first one, which is deleted by then.
        projector._on_record(StoredEvent(2, record.subject, record.body))
        async with asyncio.timeout(10):
            await asyncio.gather(*waiting)
