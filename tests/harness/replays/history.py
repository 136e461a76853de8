"""A stream with a history of known times, and what a selection of it must give."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from contracts.events.base import EventData, encode
from contracts.ids import new_id
from contracts.replay import ReplaySelection
from kit.bus.event_store import EventStore, StoredEvent
from tests.harness.streams.notifier import failed, retrying, submitted, succeeded

#: Types that are published here.
TYPES = ("job.submitted", "job.succeeded", "job.failed", "job.retrying")


@dataclass
class KnownHistory:
    """What was published, as the stream has it."""

    events: list[StoredEvent] = field(default_factory=list)

    def selected(self, selection: ReplaySelection, after: int, until: int) -> list[StoredEvent]:
        """Return the events of a window, by the selection's own rule."""
        return [event for event in self.events if after < event.sequence <= until and selection.matches(event.subject)]


async def publish_history(
    store: EventStore, count: int, seed: int = 1, *, tenants: tuple[str, ...] = ("local",), jobs: int = 5
) -> KnownHistory:
    """Publish so many events of a few jobs of some tenants, and return all that the stream holds."""
    chance = random.Random(seed)
    ids = [(chance.choice(tenants), new_id("job")) for _ in range(jobs)]
    said: list[EventData] = [submitted(), succeeded(), failed(), retrying()]
    messages = []
    for _ in range(count):
        tenant, job_id = chance.choice(ids)
        messages.append(encode(chance.choice(said), tenant=tenant, subject_id=job_id, source="/test"))
    for start in range(0, count, 200):
        await asyncio.gather(*(store.publish(message) for message in messages[start : start + 200]))
    return KnownHistory([event async for event in store.history(0, "saccade.evt.>")])
