"""Dead letters while DEADLETTERS cannot be written: the fold goes on, nothing is committed past them, none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from contracts.events import Message, encode
from contracts.events.job import JobQueued
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, LIVE_EVENTS
from kit.bus.connection import declare, request
from kit.bus.dead_letter_writer import DeadLetterWriter
from kit.bus.dead_letters import DeadLetter, DeadLetters
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from kit.tasks import end
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import ViewFollower
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.servers.event_stores import opened
from tests.harness.webhooks.delivery import run_webhooks
from tests.harness.webhooks.listeners import listening

pytestmark = pytest.mark.anyio


def queued(subject_id: str | None = None) -> Message:
    return encode(JobQueued(position=0), tenant="local", subject_id=subject_id or new_id("job"), source="/test")


def of_another_subject() -> Message:
    """Return an event that no fold accepts: it does not belong on its subject."""
    return Message(queued().subject, new_id("evt"), queued().body)


async def without_dead_letters(store: EventStore) -> None:
    await request(store.client, f"STREAM.DELETE.{DEADLETTERS.name}", {})


async def letters(store: EventStore) -> list[DeadLetter]:
    return [letter async for letter in DeadLetters(EventStore(store.client, DEADLETTERS.name)).all()]


async def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_tail_goes_on_and_stores_its_dead_letters_when_it_can(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        await without_dead_letters(store)
        events = [queued("job_bad") for _ in range(3)]
        bad = [await store.publish(event) for event in events]
        seen: list[int] = []

        def handle(stored: StoredEvent) -> None:
            if ".job_bad." in stored.subject:
                raise ValueError("not that one")
            seen.append(stored.sequence)

        tail = EventTail(store, handle, live=LIVE_EVENTS, name="test")
        following = asyncio.create_task(tail.run())
        last = max([await store.publish(queued()) for _ in range(5)])
        assert await tail.wait_for(last, 10)
        assert len(seen) == 5
        await asyncio.sleep(2.2)  # the first attempt is given up
        assert tail.dead_letters.unsettled
        await declare(store.client)
        await until(lambda: not tail.dead_letters.unsettled)
        await end(following)
        found = await letters(store)
        assert [letter.sequence for letter in found] == bad
        assert [letter.body for letter in found] == [event.body for event in events]
        assert {(letter.consumer, letter.error) for letter in found} == {("test", "ValueError: not that one")}


async def test_a_letter_whose_size_is_refused_is_stored_without_its_body(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as store:
        small = replace(DEADLETTERS, max_message_bytes=1024)
        await without_dead_letters(store)
        await declare(store.client, streams=[small])
        event = of_another_subject()
        bad = replace(event, body=event.body + b" " * 2048)
        sequence = await store.publish(bad)
        writer = DeadLetterWriter(store, "test")
        writer.add((await store.load(bad.subject))[-1], ValueError("not that one"), "")
        await until(lambda: not writer.unsettled)
        found = await letters(store)
        assert [(letter.sequence, letter.subject, letter.body) for letter in found] == [(sequence, bad.subject, b"")]


async def test_the_gateway_finds_an_event_again_whose_dead_letter_was_not_stored(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    folded: list[int] = []

    @asynccontextmanager
    async def following(store: EventStore) -> AsyncIterator[ViewFollower]:
        """Follow as a gateway does, until it is killed."""
        view = GatewayView(tmp_path)
        follower = ViewFollower(store, view, lambda _: None)
        follower.set_projectors(job=lambda _, sequence: folded.append(sequence))
        task = asyncio.create_task(follower.run())
        try:
            yield follower
        finally:
            await end(task)
            view.close()

    async with opened(nats_server) as store:
        async with following(store) as follower:
            first = await store.publish(queued())
            await until(lambda: not follower.view.dirty and follower.view.sequence == first)
            await without_dead_letters(store)
            bad = await store.publish(of_another_subject())
            last = await store.publish(queued())
            assert await follower.tail.wait_for(last, 10)
            await asyncio.sleep(0.6)  # it would have committed twice
            assert (folded, follower.view.sequence) == ([first, last], last)
        await declare(store.client)
        async with following(store) as follower:
            assert follower.view.sequence == first, "the crash must not have lost it"
            await until(lambda: follower.view.sequence == last and not follower.view.dirty)
            assert folded == [first, last, last]
        assert [(letter.sequence, letter.consumer) for letter in await letters(store)] == [(bad, "gateway")]


async def test_the_notifier_finds_an_event_again_whose_dead_letter_was_not_stored(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    async with opened(nats_server) as store, listening() as receiver:
        async with run_webhooks(nats_server.settings, tmp_path) as here:
            endpoint = await here.make(receiver.url)
            first = await store.publish(queued())
            await here.settled(endpoint.id, 1)
            await here.until(lambda: not here.webhooks.file.dirty)
            await without_dead_letters(store)
            bad = await store.publish(of_another_subject())
            last = await store.publish(queued())
            await here.settled(endpoint.id, 2)  # the others are delivered
            assert here.webhooks.file.planned == last
        await declare(store.client)
        async with run_webhooks(nats_server.settings, tmp_path) as here:
            assert first <= here.webhooks.file.planned
            await here.settled(endpoint.id, 2)
            await here.until(lambda: not here.webhooks.file.dirty)
        assert [(letter.sequence, letter.consumer) for letter in await letters(store)] == [(bad, "notifier")]
        assert len(receiver.got) == 2
