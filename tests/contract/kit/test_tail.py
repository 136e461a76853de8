"""Tail of a stream: every event, in order, once, despite disconnects, kills and recreated streams."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from contracts.events import Message, encode
from contracts.events.job import JobQueued, JobStageCompleted
from contracts.ids import new_id
from contracts.limits import EVENT_BYTES
from contracts.streams import LIVE_EVENTS
from kit.bus.connection import declare, epoch_of, request
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EpochChanged, EventTail
from kit.tasks import end
from tests.harness.servers.embedded import EmbeddedNats, NatsServer
from tests.harness.servers.event_stores import opened

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def following(tail: EventTail, after: int = 0, epoch: str = "") -> AsyncIterator[asyncio.Task[None]]:
    """Run a tail in the background."""
    task = asyncio.create_task(tail.run(after, epoch))
    try:
        yield task
    finally:
        await end(task)


def queued(position: int) -> Message:
    return encode(JobQueued(position=position), tenant="acme", subject_id=new_id("job"), source="/test")


def numbered(number: int, filler_bytes: int = 0) -> Message:
    """Return an event whose body holds its number and, if wanted, a large filler."""
    data = JobStageCompleted(attempt=1, run_id="r", stage=f"{number}-" + "x" * filler_bytes, duration_s=0)
    return encode(data, tenant="acme", subject_id=new_id("job"), source="/test")


async def publish(store: EventStore, count: int) -> int:
    """Publish events concurrently and return the last sequence."""
    return max(await asyncio.gather(*(store.publish(queued(i), deadline_s=60) for i in range(count))))


async def test_history_then_live_in_order_each_once(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        await publish(store, 700)
        seen: list[int] = []
        tail = EventTail(store, lambda stored: seen.append(stored.sequence), live=LIVE_EVENTS, name="test")
        async with following(tail, before):
            last = await publish(store, 300)  # while it still reads history
            assert await tail.wait_for(last, 30)
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            last = await publish(store, 50)
            assert await tail.wait_for(last, 30)
        assert seen == list(range(before + 1, last + 1))


async def test_it_says_how_much_of_the_history_is_read(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        last = await publish(store, 200)
        said: list[str | None] = []
        tail = EventTail(store, lambda _: said.append(tail.reading()), live=LIVE_EVENTS, name="test")
        assert tail.reading() == "Stream EVENTS is not read yet."
        async with following(tail, before):
            await asyncio.wait_for(tail.caught_up.wait(), 30)
            assert tail.reading() is None
            await publish(store, 1)
        assert said[0] == f"0 % of stream EVENTS is read, up to event {before} of {last}."
        assert said[100] == f"50 % of stream EVENTS is read, up to event {before + 100} of {last}."


async def test_lost_live_copies_are_read_from_the_stream(any_nats_server: NatsServer) -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)

    class LossyTail(EventTail):
        """Loses live copies as a slow or broken connection does."""

        lost = 0

        async def _on_live(self, msg: Msg) -> None:
            if dice.random() < 0.5:
                self.lost += 1
            else:
                await super()._on_live(msg)

    async with opened(any_nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        seen: list[int] = []
        tail = LossyTail(store, lambda stored: seen.append(stored.sequence), live=LIVE_EVENTS, name="test")
        async with following(tail, before):
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            for _ in range(20):
                last = await publish(store, 10)
            assert await tail.wait_for(last, 30), f"seed {seed}"
        assert tail.lost > 0, f"seed {seed}"
        assert seen == list(range(before + 1, last + 1)), f"seed {seed}"


async def test_repeated_and_late_live_copies_change_nothing(any_nats_server: NatsServer) -> None:
    class RepeatingTail(EventTail):
        """Gets every live copy twice, and then the previous one again."""

        before: Msg | None = None

        async def _on_live(self, msg: Msg) -> None:
            for copy in (msg, msg, self.before):
                if copy is not None:
                    await super()._on_live(copy)
            self.before = msg

    async with opened(any_nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        seen: list[int] = []
        tail = RepeatingTail(store, lambda stored: seen.append(stored.sequence), live=LIVE_EVENTS, name="test")
        async with following(tail, before):
            last = await publish(store, 100)
            assert await tail.wait_for(last, 30)
        assert seen == list(range(before + 1, last + 1))


async def test_kill_9_of_the_server_leaves_no_gap(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as writer, opened(any_nats_server) as reader:
        _, before = await epoch_of(reader.client, "EVENTS")
        seen: list[int] = []
        tail = EventTail(reader, lambda stored: seen.append(stored.sequence), live=LIVE_EVENTS, name="test")
        async with following(tail, before) as task:
            await publish(writer, 20)
            publishing = asyncio.create_task(publish(writer, 200))
            await asyncio.sleep(0.01)
            any_nats_server.kill()
            await asyncio.to_thread(any_nats_server.start)
            await publishing
            _, last = await epoch_of(writer.client, "EVENTS")
            assert await tail.wait_for(last, 60)
            assert not task.done()
        assert last - before >= 220
        assert seen == list(range(before + 1, last + 1))


async def test_each_body_arrives_in_order_before_and_after_a_reconnection(nats_server: EmbeddedNats) -> None:
    async with opened(nats_server) as writer, opened(nats_server) as reader:
        seen: list[StoredEvent] = []
        tail = EventTail(reader, seen.append, live=LIVE_EVENTS, name="test")
        async with following(tail):
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            for number in range(50):
                last = await writer.publish(numbered(number), deadline_s=30)
            assert await tail.wait_for(last, 10)
            nats_server.kill()
            await asyncio.to_thread(nats_server.start)
            for number in range(50, 150):
                last = await writer.publish(numbered(number), deadline_s=30)
            assert await tail.wait_for(last, 30)
        assert [stored.sequence for stored in seen] == list(range(1, 151))
        assert [stored.body.split(b'"stage":"')[1].split(b"-")[0] for stored in seen] == [
            str(number).encode() for number in range(150)
        ]


async def test_large_and_concurrent_events_arrive_whole_and_in_order(nats_server: EmbeddedNats) -> None:
    async def publish_five(store: EventStore, first: int) -> int:
        return max([await store.publish(numbered(n, 25_000 * (first % 3))) for n in range(first, first + 5)])

    async with opened(nats_server) as writer, opened(nats_server) as reader:
        seen: list[StoredEvent] = []
        tail = EventTail(reader, seen.append, live=LIVE_EVENTS, name="test")
        async with following(tail):
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            sequences = await asyncio.gather(*(publish_five(writer, first) for first in range(0, 60, 5)))
            assert await tail.wait_for(max(sequences), 30)
        assert [stored.sequence for stored in seen] == list(range(1, 61))
        for stored in seen:
            found, _ = await writer.batch(stored.sequence - 1, size=1)
            assert (stored.subject, stored.body) == (found[0].subject, found[0].body)


async def test_a_rejected_event_becomes_a_dead_letter_and_the_tail_continues(
    any_nats_server: NatsServer,
) -> None:
    async with opened(any_nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")
        bad = queued(13)
        seen: list[int] = []

        def handle(stored: StoredEvent) -> None:
            if stored.body == bad.body:
                raise ValueError("thirteen\nis too many")
            seen.append(stored.sequence)

        name = new_id("run")
        tail = EventTail(store, handle, live=LIVE_EVENTS, name=name)
        async with following(tail, before):
            await publish(store, 3)
            broken = await store.publish(bad)
            last = await publish(store, 3)
            assert await tail.wait_for(last, 30)
            [letter] = await _eventually(lambda: EventStore(store.client, "DEADLETTERS").load(f"saccade.dlq.*.{name}"))
        assert broken not in seen
        assert seen == [sequence for sequence in range(before + 1, last + 1) if sequence != broken]
        assert letter.body == bad.body
        answer = await request(store.client, "STREAM.MSG.GET.DEADLETTERS", {"seq": letter.sequence})
        assert answer["message"]["subject"] == f"saccade.dlq.EVENTS.{name}"
        headers = await _headers(store, letter.sequence)
        assert f"Saccade-Sequence: {broken}" in headers
        assert "Saccade-Error: ValueError: thirteen is too many" in headers


async def test_the_dead_letter_of_an_event_of_the_largest_size_has_all_of_it(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as store:
        _, before = await epoch_of(store.client, "EVENTS")

        def handle(stored: StoredEvent) -> None:
            if len(stored.body) == EVENT_BYTES:
                raise ValueError("not an event")

        name = new_id("run")
        tail = EventTail(store, handle, live=LIVE_EVENTS, name=name)
        async with following(tail, before):
            await store.client.jetstream().publish(queued(0).subject, b"x" * EVENT_BYTES)
            assert await tail.wait_for(await publish(store, 1), 30)
            [letter] = await _eventually(lambda: EventStore(store.client, "DEADLETTERS").load(f"saccade.dlq.*.{name}"))
        assert len(letter.body) == EVENT_BYTES
        assert f"Saccade-Sequence: {before + 1}" in await _headers(store, letter.sequence)
        assert store.client.stats["reconnects"] == 0


async def _headers(store: EventStore, sequence: int) -> str:
    stored = await store.client.jetstream().get_msg("DEADLETTERS", seq=sequence)
    return "\n".join(f"{name}: {value}" for name, value in (stored.headers or {}).items())


async def _eventually(load: Callable[[], asyncio.Future[list[StoredEvent]]]) -> list[StoredEvent]:
    async with asyncio.timeout(20):
        while not (found := await load()):
            await asyncio.sleep(0.02)
    return found


async def test_a_recreated_stream_ends_the_tail(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as store:
        await publish(store, 5)
        epoch, last = await epoch_of(store.client, "EVENTS")
        tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")
        async with following(tail, last, epoch):
            await asyncio.wait_for(tail.caught_up.wait(), 10)
        await request(store.client, "STREAM.DELETE.EVENTS", {})
        await declare(store.client)
        again, _ = await epoch_of(store.client, "EVENTS")
        assert again != epoch
        with pytest.raises(EpochChanged):
            await EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test").run(last, epoch)
        with pytest.raises(EpochChanged):
            # A sequence that this incarnation has not reached is of another one.
            await EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test").run(last)


async def test_a_stream_recreated_while_the_tail_runs_ends_it(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as store, opened(any_nats_server) as other:
        await publish(store, 5)
        tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")
        async with following(tail) as task:
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            await request(other.client, "STREAM.DELETE.EVENTS", {})
            await declare(other.client)
            await publish(other, 1)
            any_nats_server.kill()
            await asyncio.to_thread(any_nats_server.start)
            with pytest.raises(EpochChanged):
                await asyncio.wait_for(asyncio.shield(task), 30)


@pytest.mark.parametrize("busy", [False, True])
async def test_a_stream_recreated_under_an_open_connection_ends_the_tail(
    any_nats_server: NatsServer, busy: bool
) -> None:
    async with opened(any_nats_server) as store:
        await publish(store, 50)
        tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")
        async with following(tail) as task:
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            await request(store.client, "STREAM.DELETE.EVENTS", {})
            await declare(store.client)
            async with asyncio.timeout(30):
                while not task.done():
                    if busy:
                        await publish(store, 1)
                    await asyncio.sleep(0.1)
            with pytest.raises(EpochChanged):
                await task


async def test_events_during_an_epoch_check_do_not_end_the_tail(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reply of an epoch check can be older than the events handled before it is read."""
    monkeypatch.setattr("kit.bus.tail._CHECK_S", 0.001)
    async with opened(nats_server) as store, opened(nats_server) as other:
        seen: list[int] = []
        tail = EventTail(store, lambda stored: seen.append(stored.sequence), live=LIVE_EVENTS, name="test")
        async with following(tail):
            last = 0
            for _ in range(40):
                last = await publish(other, 50)
            assert await tail.wait_for(last, 30)
        assert seen == list(range(1, last + 1))


async def test_a_server_that_lost_its_data_ends_the_tail(tmp_path: Path) -> None:
    """Only a starting service declares the streams again: a tail that waited would never end."""
    with EmbeddedNats(tmp_path) as server:
        async with opened(server) as store:
            await publish(store, 3)
            tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")
            async with following(tail) as task:
                await asyncio.wait_for(tail.caught_up.wait(), 10)
                server.kill()
                shutil.rmtree(tmp_path / "jetstream")
                await asyncio.to_thread(server.start)
                with pytest.raises(EpochChanged):
                    await asyncio.wait_for(asyncio.shield(task), 40)


async def test_a_replica_that_lags_makes_no_gap(any_nats_server: NatsServer) -> None:
    class LaggingStore(EventStore):
        """Answers like a replica that does not have the newest events yet."""

        behind = 0

        async def batch(
            self, after: int, subjects: str = ">", size: int = 500, deadline_s: float = 10.0
        ) -> tuple[list[StoredEvent], int]:
            if self.behind:
                self.behind -= 1
                return [], 0
            return await super().batch(after, subjects, size, deadline_s)

    class PausedTail(EventTail):
        """Loses live copies while it is paused."""

        paused = False

        async def _on_live(self, msg: Msg) -> None:
            if not self.paused:
                await super()._on_live(msg)

    async with opened(any_nats_server) as writer:
        _, before = await epoch_of(writer.client, "EVENTS")
        store, seen = LaggingStore(writer.client), list[int]()
        tail = PausedTail(store, lambda stored: seen.append(stored.sequence), live=LIVE_EVENTS, name="test")
        async with following(tail, before):
            await asyncio.wait_for(tail.caught_up.wait(), 10)
            tail.paused = True
            await publish(writer, 3)
            await writer.client.flush()
            tail.paused, store.behind = False, 2
            assert await tail.wait_for(await publish(writer, 1), 30)
        assert seen == list(range(before + 1, before + 5))


async def test_waiting_for_a_missing_event_times_out(any_nats_server: NatsServer) -> None:
    async with opened(any_nats_server) as store:
        _, last = await epoch_of(store.client, "EVENTS")
        tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")
        async with following(tail, last):
            assert not await tail.wait_for(last + 1, 0.2)


async def test_a_tail_is_cancelled_also_when_an_event_arrives(nats_server: NatsServer) -> None:
    """``asyncio.wait_for`` would lose the cancellation here, and a service would never stop."""
    async with opened(nats_server) as store:
        tail = EventTail(store, lambda _: None, live=LIVE_EVENTS, name="test")
        task = asyncio.create_task(tail.run())
        async with asyncio.timeout(10):
            await tail.caught_up.wait()
            await asyncio.sleep(0.05)
        tail._arrived.set()
        task.cancel()
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
