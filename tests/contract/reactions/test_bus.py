"""The bus: on a connection that is not its own, with a watch over consumers and streams."""

from __future__ import annotations

import asyncio
import time

import pytest
from faststream.exceptions import SetupError
from nats.js.errors import NotFoundError
from saccade_events import Bus, ConsumerMissing, Event, Reactions, RetryPolicy, StreamReplaced

from contracts.events.job import JobProgressed, JobSucceeded
from contracts.events.upload import UploadCompleted
from contracts.streams import EVENTS
from kit.bus.connection import connect, declare
from kit.tasks import end
from tests.harness.streams.reaction_stage import CONSUMER, Stage, complete_upload, fail, succeed

pytestmark = pytest.mark.anyio


async def test_the_connection_stays_open_and_a_bus_can_start_again(stage: Stage) -> None:
    bus = stage.bus()
    for count in (1, 2):
        async with stage.running(bus):
            await complete_upload(stage.store)
            await stage.until_called(count)
        assert stage.client.is_connected
        assert not await bus.ping(0.1)


async def test_no_stream_is_declared_or_changed(stage: Stage) -> None:
    before = (await stage.client.jetstream().stream_info(EVENTS.name)).config
    async with stage.running():
        await complete_upload(stage.store)
        await stage.until_settled()
    assert (await stage.client.jetstream().stream_info(EVENTS.name)).config == before
    (subscriber,) = stage.reactions().router().subscribers
    assert not subscriber.stream.declare, "a router in another broker declares none, either"


async def test_a_stream_that_faststream_would_reset_is_refused(stage: Stage) -> None:
    bus = stage.bus()
    bus.publisher("saccade.dlq.x", stream="DEADLETTERS")
    with pytest.raises(SetupError):
        async with asyncio.timeout(5):
            await bus.run()


async def test_a_deleted_consumer_comes_back_with_what_came_meanwhile(stage: Stage) -> None:
    async with stage.running():
        before = await complete_upload(stage.store)
        await stage.until_settled()
        await stage.client.jetstream().delete_consumer(EVENTS.name, CONSUMER)
        meanwhile = await complete_upload(stage.store)
        await stage.until_called(2)
        last = await complete_upload(stage.store)
        await stage.until_called(3)
        assert stage.called_with == [before, meanwhile, last]


async def test_a_restart_of_the_server_is_survived_within_seconds(stage: Stage) -> None:
    async with stage.running():
        await complete_upload(stage.store)
        await stage.until_settled()
        await asyncio.sleep(0.1)
        stage.server.kill()
        stage.server.start()
        last = await complete_upload(stage.store)  # its first attempt is lost, and repeated after two seconds
        begin = time.monotonic()
        await stage.until(lambda: last in stage.called_with)
        # By then a pull of one second is repeated; one of FastStream's five would take two and a half more.
        assert time.monotonic() - begin < 2.0


async def test_a_stream_made_anew_ends_the_bus(stage: Stage) -> None:
    async with stage.running() as running:
        await complete_upload(stage.store)
        await stage.until_settled()
        await stage.client.jetstream().delete_stream(EVENTS.name)
        await declare(stage.client)
        async with asyncio.timeout(10):
            with pytest.raises(StreamReplaced):
                await running


async def test_a_deleted_stream_ends_the_bus(stage: Stage) -> None:
    async with stage.running() as running:
        await complete_upload(stage.store)
        await stage.until_settled()
        await stage.client.jetstream().delete_stream(EVENTS.name)
        async with asyncio.timeout(10):
            with pytest.raises(StreamReplaced):
                await running


async def test_a_stream_that_is_deleted_while_the_bus_starts_ends_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = stage.bus()
    remember = bus._remember_stream

    async def remember_and_delete(stream: str) -> None:
        await remember(stream)
        await stage.client.jetstream().delete_stream(stream)

    monkeypatch.setattr(bus, "_remember_stream", remember_and_delete)
    async with asyncio.timeout(10):
        with pytest.raises(StreamReplaced):
            await bus.run()


async def test_a_bus_that_may_not_declare_ends_when_its_consumer_is_gone(stage: Stage) -> None:
    with pytest.raises(ConsumerMissing, match=CONSUMER):
        await stage.bus(declare=False).run()
    with pytest.raises(NotFoundError):
        await stage.consumer()
    await stage.reactions().declare(stage.client)
    async with stage.running(stage.bus(declare=False)) as running:
        await complete_upload(stage.store)
        await stage.until_called(1)
        await stage.client.jetstream().delete_consumer(EVENTS.name, CONSUMER)
        async with asyncio.timeout(10):
            with pytest.raises(ConsumerMissing):
                await running


async def test_a_bus_waits_for_the_server_at_its_start(stage: Stage) -> None:
    stage.server.kill()
    async with stage.running(started=False) as running:
        await asyncio.sleep(0.5)
        assert not running.done()
        stage.server.start()
        await complete_upload(stage.store)
        await stage.until(lambda: len(stage.calls) == 1, timeout_s=20)


async def test_a_consumer_is_brought_up_to_date_and_keeps_its_place(stage: Stage) -> None:
    async with stage.running(stage.bus(RetryPolicy(ack_wait_s=20))):
        await complete_upload(stage.store)
        before = await stage.until_settled()
    async with stage.running(stage.bus(RetryPolicy(ack_wait_s=15))):
        await complete_upload(stage.store)
        await stage.until_called(2)
    after = await stage.until_settled()
    assert (before.config.ack_wait, after.config.ack_wait) == (20, 15)
    assert after.config.opt_start_time == before.config.opt_start_time
    assert len(stage.calls) == 2, "what was handled before is not handled again"


async def test_what_came_before_the_first_start_is_handled_when_it_is_recent(stage: Stage) -> None:
    upload_id = await complete_upload(stage.store)
    async with stage.running():
        await stage.until_called(1)
    assert stage.called_with == [upload_id]
    info = await stage.consumer()
    assert info.config.opt_start_time
    assert 3590 <= (info.created - info.config.opt_start_time).total_seconds() <= 3610


async def test_an_event_at_hand_is_handled_and_its_errors_are_the_callers(stage: Stage) -> None:
    sequences: list[int] = []

    async def note(event: Event[UploadCompleted]) -> None:
        sequences.append(event.sequence)

    bus = stage.bus()
    upload_id = await complete_upload(stage.store)
    (event,) = await stage.store.load(f"saccade.evt.acme.upload.{upload_id}.completed")
    async with stage.running(bus):
        await stage.until_settled()
        stage.act = note
        await bus.handle(CONSUMER, event.subject, event.body, event.sequence)
        assert sequences == [event.sequence]
        assert stage.called_with == [upload_id] * 2
        stage.act = fail
        with pytest.raises(OSError, match="the network is down"):
            await bus.handle(CONSUMER, event.subject, event.body)
        with pytest.raises(ValueError, match="does not belong"):
            await bus.handle(CONSUMER, event.subject.replace("acme", "victim"), event.body)
        with pytest.raises(KeyError):
            await bus.handle("tested-job-failed", event.subject, event.body)
        stage.act = succeed
        assert not await stage.dead_letters()


async def test_pulls_are_answered_below_the_connections_own_inbox(stage: Stage) -> None:
    """Credentials may allow no other, and the server's refusal is told to nobody."""
    settings = stage.server.settings.model_copy(update={"inbox_prefix": "_INBOX_tested"})
    stage.client = await connect(settings, "tested")
    bus = stage.bus()
    async with stage.running(bus):
        await complete_upload(stage.store)
        await stage.until_called(1)
        (subscriber,) = bus.subscribers
        assert subscriber.subscription._sub.subject.startswith("_INBOX_tested.")  # type: ignore[attr-defined]
    await stage.client.close()


async def test_two_buses_share_the_events(stage: Stage) -> None:
    async def slow(event: Event[UploadCompleted]) -> None:
        await asyncio.sleep(0.05)

    stage.act = slow
    async with stage.running(), stage.running():
        uploads = [await complete_upload(stage.store) for _ in range(20)]
        await stage.until_settled()
    assert sorted(stage.called_with) == sorted(uploads)


async def test_declarations_that_cannot_work_are_refused(stage: Stage) -> None:
    reactions = Reactions("tested")

    def not_a_coroutine(event: Event[JobSucceeded]) -> None:
        return

    async def handler(event: Event[JobSucceeded]) -> None:
        return

    with pytest.raises(TypeError):
        reactions.on(JobSucceeded)(not_a_coroutine)  # type: ignore[type-var]
    with pytest.raises(ValueError, match="advisory"):
        reactions.on(JobProgressed)
    reactions.on(JobSucceeded)(handler)
    with pytest.raises(ValueError, match="already"):
        reactions.on(JobSucceeded)(handler)
    with pytest.raises(ValueError, match="name"):
        Reactions("a.b").on(JobSucceeded)(handler)
    bus = Bus(stage.client, reactions)
    with pytest.raises(RuntimeError):
        reactions.on(UploadCompleted)(handler)
    await end(asyncio.ensure_future(bus.run()))
