"""Events of one tenant that are sent together: one write for each of its streams instead of one for each event."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.notifier.streams.sse import Selection, StreamEvent
from services.notifier.streams.subscriber import Subscriber, deliver

#: Bytes and events that go together: half of what the kernel takes for a client (``SEND_BUFFER_BYTES``).
_BATCH_BYTES: Final = 32 * 1024
_BATCH_EVENTS: Final = 64


class Arrival(NamedTuple):
    """An event, and its number among all that have arrived, progress included."""

    event: StreamEvent
    number: int


def take_batch(waiting: deque[Arrival]) -> list[Arrival]:
    """Remove and return the first of the events that wait, at least one."""
    batch = [waiting.popleft()]
    size = len(batch[0].event.body)
    while waiting and len(batch) < _BATCH_EVENTS:
        size += len(waiting[0].event.body)
        if size > _BATCH_BYTES:
            break
        batch.append(waiting.popleft())
    return batch


def deliver_together(arrivals: Sequence[Arrival], selection: Selection, streams: list[Subscriber]) -> None:
    """Send events of a selection, in their order, to streams of it."""
    if len(arrivals) == 1 or selection.ends:
        for arrival in arrivals:
            _deliver_one(arrival, selection, streams)
        return
    first_number, ready = arrivals[0].number, b"".join(event.chunk for event, _ in arrivals)
    durable = [event.sequence for event, _ in arrivals if event.sequence]
    for subscriber in streams:
        misses_all = subscriber.joined < first_number and not (durable and subscriber.position >= durable[0])
        if not (misses_all and subscriber.send_ready(ready, durable[-1] if durable else subscriber.position)):
            for arrival in arrivals:
                _deliver_one(arrival, selection, [subscriber])


def _deliver_one(arrival: Arrival, selection: Selection, streams: list[Subscriber]) -> None:
    event = arrival.event
    if not event.sequence:
        for subscriber in streams:
            if subscriber.joined < arrival.number:  # else it has begun with this progress, or with a newer one
                subscriber.offer_progress(event)
        return
    deliver(event, streams)
    if event.ends and selection.ends:
        for subscriber in streams:
            if subscriber.ended:  # not one that has already read further
                subscriber.close("ended")
