"""Events that are sent to many streams together: each stream gets its own, once, in order, in one write."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from saccade_client.sse import SseParser

from contracts.events.base import EventData, encode
from contracts.events.job import JobCancelled, JobProgressed, JobQueued
from contracts.ids import new_id
from kit.auth.api_keys import Principal
from kit.bus.event_store import StoredEvent
from services.notifier.metrics import NotifierMetrics
from services.notifier.streams.event_batch import Arrival, take_batch
from services.notifier.streams.fan_out import PIECE_STREAMS
from services.notifier.streams.hub import Hub
from services.notifier.streams.sse import Selection, StreamEvent
from services.notifier.streams.subscriber import StreamLimits, Subscriber

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
JOB = new_id("job")
ALL = Selection("acme")
LIMITS = StreamLimits(max_streams=1000, backlog_events=100, backlog_bytes=10**6, blocked_s=60.0, rotate_s=600.0)
CALLER = Principal("acme", frozenset({"read"}), "one")


class Streams:
    """A hub, streams on sockets of their own, and what arrived on each."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        metrics = NotifierMetrics()
        self.hub = Hub(metrics, ring_events=100, ring_bytes=10**6, heartbeat_s=60.0)
        self.counters = metrics.counters
        self._stack = stack
        self._ends: dict[Subscriber, socket.socket] = {}
        self._sequence = 0

    async def open(self, selection: Selection = ALL, position: int = 0) -> Subscriber:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._stack.callback(theirs.close)
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        self._stack.callback(transport.abort)
        subscriber = Subscriber(selection, CALLER, LIMITS, self.hub.remove)
        subscriber.connection.begin(transport, chunked=True, connections=set())
        self._ends[subscriber] = theirs
        self.hub.open.add(subscriber)
        subscriber.begin()
        subscriber.position = position
        self.hub.add(subscriber)
        self.read(subscriber)
        return subscriber

    def count_writes(self, subscriber: Subscriber) -> list[int]:
        """Return a list that gets the size of each direct write to a stream."""
        sizes: list[int] = []
        send = subscriber.send
        assert send

        def counted(chunk: bytes) -> int:
            sizes.append(len(chunk))
            return send(chunk)

        subscriber.send = counted
        return sizes

    def store(self, *events: EventData) -> None:
        for data in events:
            message = encode(data, tenant="acme", subject_id=JOB, source="/test", time=NOW)
            self._sequence += 1
            self.hub.on_event(StoredEvent(self._sequence, message.subject, message.body))

    def progress(self, fraction: float) -> None:
        data = JobProgressed(attempt=1, run_id="run_1", stage="x", fraction=fraction, stage_fraction=fraction)
        message = encode(data, tenant="acme", subject_id=JOB, source="/test", time=NOW)
        self.hub.on_progress(message.subject, message.body)

    def read(self, subscriber: Subscriber) -> list[str]:
        """Return the sequences of the events that have arrived by now, or the fractions of progress."""
        received = b""
        with contextlib.suppress(BlockingIOError):
            while part := self._ends[subscriber].recv(1 << 20):
                received += part
        body, rest = b"", received
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        blocks = SseParser().push(body)
        return [
            block.id.partition(".")[2] if block.id else block.text.partition('"fraction":')[2][:3] for block in blocks
        ]

    async def settle(self) -> None:
        async with asyncio.timeout(10):
            while self.hub.waiting:
                await asyncio.sleep(0)


@pytest.fixture
async def streams() -> AsyncIterator[Streams]:
    async with contextlib.AsyncExitStack() as stack:
        yield Streams(stack)


def queued(count: int) -> list[EventData]:
    return [JobQueued(position=number) for number in range(count)]


async def test_events_that_arrive_while_many_streams_get_one_go_together(streams: Streams) -> None:
    opened = [await streams.open() for _ in range(3 * PIECE_STREAMS)]
    writes = [streams.count_writes(stream) for stream in opened]
    streams.store(*queued(3))
    streams.progress(0.5)
    streams.store(*queued(2))
    await streams.settle()
    assert {tuple(streams.read(stream)) for stream in opened} == {("1", "2", "3", "0.5", "4", "5")}
    assert sorted({len(sizes) for sizes in writes}) == [2], "the first event, and the others together"
    assert streams.counters.frames == 6 * len(opened)
    assert {stream.position for stream in opened} == {5}


async def test_a_stream_that_has_begun_meanwhile_gets_nothing_twice(streams: Streams) -> None:
    others = [await streams.open() for _ in range(2 * PIECE_STREAMS)]
    streams.store(*queued(2))
    streams.progress(0.3)
    late = await streams.open(position=2)  # its history had both, and the newest progress
    streams.store(*queued(1))
    streams.progress(0.4)
    await streams.settle()
    assert streams.read(late) == ["3", "0.4"]
    assert {tuple(streams.read(stream)) for stream in others} == {("1", "2", "0.3", "3", "0.4")}


async def test_a_stream_gets_no_progress_of_the_time_before_it_began(streams: Streams) -> None:
    others = [await streams.open() for _ in range(2 * PIECE_STREAMS)]
    streams.store(*queued(1))
    streams.progress(0.3)
    late = await streams.open(position=1)
    streams.progress(0.4)
    await streams.settle()
    assert streams.read(late) == ["0.4"]
    assert {tuple(streams.read(stream)) for stream in others} == {("1", "0.3", "0.4")}


async def test_each_selection_gets_its_own_of_them_and_a_jobs_stream_ends_with_it(streams: Streams) -> None:
    everything = [await streams.open() for _ in range(2 * PIECE_STREAMS)]
    cancelled = await streams.open(Selection("acme", types=frozenset({"job.cancelled"})))
    of_job = await streams.open(Selection("acme", JOB, ends=True))
    streams.store(*queued(2), JobCancelled(attempt=1))
    await streams.settle()
    assert streams.read(cancelled) == ["3"]
    assert streams.read(of_job) == ["1", "2", "3"]
    assert of_job.reason == "ended"
    assert {stream.reason for stream in everything} == {None}


async def test_a_slow_stream_queues_what_the_others_get_together(streams: Streams) -> None:
    opened = [await streams.open() for _ in range(2 * PIECE_STREAMS)]
    slow = opened[5]
    slow.on_blocked()
    streams.store(*queued(4))
    await streams.settle()
    assert streams.read(slow) == []
    slow.on_writable()
    assert streams.read(slow) == ["1", "2", "3", "4"]


def test_a_batch_is_bounded_in_bytes_and_has_one_event_at_least() -> None:
    message = encode(JobQueued(position=1), tenant="acme", subject_id=JOB, source="/test", time=NOW)
    large = StreamEvent.of(message.subject, message.body, "abc", 1)
    large.body = b"x" * 50_000
    small = [StreamEvent.of(message.subject, message.body, "abc", number) for number in range(2, 200)]
    waiting = deque(Arrival(event, number) for number, event in enumerate([large, *small]))
    assert [arrival.event for arrival in take_batch(waiting)] == [large]
    taken = take_batch(waiting)
    assert 10 < len(taken) < 198
    assert sum(len(arrival.event.body) for arrival in taken) <= 32 * 1024
    assert waiting[0].number == taken[-1].number + 1
