"""Every subscription of the notifier to events: all durable ones, and all progress, each once a process."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.streams import LIVE_EVENTS, LIVE_PROGRESS
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from services.notifier.live import LiveTail

log = logging.getLogger(__name__)


def follow_events(store: EventStore, *takers: Callable[[StoredEvent], None]) -> EventTail:
    """Make the tail that gives every stored event, in order, without a gap, to each taker; the caller runs it.

    Only the last taker may refuse an event by an error: it is then kept among the dead letters.
    """

    def on_event(stored: StoredEvent) -> None:
        for take in takers:
            take(stored)

    return LiveTail(store, on_event, live=LIVE_EVENTS, name="notifier")


async def follow_progress(client: Client, *takers: Callable[[str, bytes], None]) -> None:
    """Give each taker progress as it comes; what is lost is replaced by the next."""

    async def on_progress(msg: Msg) -> None:
        try:
            for take in takers:
                take((msg.headers or {})["Nats-Subject"], msg.data)
        except ValueError as error:
            log.warning("progress on %s is left out: %s", msg.subject, error)

    await client.subscribe(LIVE_PROGRESS, cb=on_progress)
