"""Subscriptions of the notifier: all durable events and all progress, each once per process."""

from __future__ import annotations

import logging
from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.streams import LIVE_EVENTS, LIVE_PROGRESS
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from services.notifier.ended_subjects import EndedSubjects

log = logging.getLogger(__name__)


def follow_events(store: EventStore, *handlers: Callable[[StoredEvent], None]) -> EventTail:
    """Return the tail that passes every stored event, in order and without a gap, to each handler; the caller runs it.

    Only the last handler may refuse an event by raising: it then becomes a dead letter.
    """

    def on_event(stored: StoredEvent) -> None:
        for handler in handlers:
            handler(stored)

    return EventTail(store, on_event, live=LIVE_EVENTS, name="notifier")


async def follow_progress(client: Client, ended: EndedSubjects, *handlers: Callable[[str, bytes], None]) -> None:
    """Subscribe to progress and pass it to each handler, unless its job or session has ended.

    A lost message is superseded by the next one.
    """

    async def on_progress(msg: Msg) -> None:
        subject = (msg.headers or {})["Nats-Subject"]
        if ended.has(subject):
            return
        try:
            for handler in handlers:
                handler(subject, msg.data)
        except ValueError as error:
            log.warning("progress on %s is skipped: %s", msg.subject, error)

    await client.subscribe(LIVE_PROGRESS, cb=on_progress)
