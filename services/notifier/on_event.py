"""Every subscription of the notifier to events: all durable ones, and all progress, each once a process."""

from __future__ import annotations

import logging

from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.streams import LIVE_EVENTS, LIVE_PROGRESS
from services.kit.event_store import EventStore
from services.kit.tail import EventTail
from services.notifier.hub import Hub

log = logging.getLogger(__name__)


def follow_events(store: EventStore, hub: Hub) -> EventTail:
    """Make the tail that gives the hub every stored event, in order, without a gap; the caller runs it."""
    return EventTail(store, hub.on_event, live=LIVE_EVENTS, name="notifier")


async def follow_progress(client: Client, hub: Hub) -> None:
    """Give the hub progress as it comes; what is lost is replaced by the next."""

    async def on_progress(msg: Msg) -> None:
        try:
            hub.on_progress((msg.headers or {})["Nats-Subject"], msg.data)
        except ValueError as error:
            log.warning("progress on %s is left out: %s", msg.subject, error)

    await client.subscribe(LIVE_PROGRESS, cb=on_progress)
