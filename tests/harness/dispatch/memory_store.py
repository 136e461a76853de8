"""The event store and the bucket as a dispatcher uses them, in memory, with answers that take their time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

from contracts.events.base import Message
from kit.bucket import Bucket, ObjectMissing
from kit.bus.event_store import Conflict, EventStore, StoredEvent


class MemoryStore(EventStore):
    """Stores on the same conditions as JetStream: the newest sequence among subjects, and each id once."""

    def __init__(self, chance: random.Random) -> None:
        self.log: list[StoredEvent] = []
        #: Subscribers of stored events, in order.
        self.heard: asyncio.Queue[StoredEvent] = asyncio.Queue()
        self._of: dict[str, list[StoredEvent]] = {}
        self._ids: dict[str, int] = {}
        self._chance = chance

    async def publish(
        self, message: Message, *, after: int | None = None, among: str | None = None, **_: Any
    ) -> int:  # fmt: skip
        await asyncio.sleep(self._chance.uniform(0.001, 0.02))
        if message.id in self._ids:
            return self._ids[message.id]
        thing = message.subject.rpartition(".")[0]
        assert among in (None, f"{thing}.*")
        known = self._of.setdefault(thing, [])
        if after is not None and after != (known[-1].sequence if known else 0):
            raise Conflict(message.subject)
        stored = StoredEvent(len(self.log) + 1, message.subject, message.body)
        self.log.append(stored)
        known.append(stored)
        self._ids[message.id] = stored.sequence
        self.heard.put_nowait(stored)
        await asyncio.sleep(self._chance.uniform(0.001, 0.02))
        return stored.sequence

    async def load(self, subjects: str, deadline_s: float = 5.0) -> list[StoredEvent]:  # noqa: ARG002
        await asyncio.sleep(self._chance.uniform(0.001, 0.02))
        newest = {one.subject: one for one in self.of(subjects)}
        return sorted(newest.values(), key=lambda one: one.sequence)

    async def history(self, after: int, subjects: str = ">") -> AsyncIterator[StoredEvent]:
        for one in self.log[after:] if subjects == ">" else self.of(subjects):
            yield one

    def of(self, subjects: str) -> list[StoredEvent]:
        """Return all events of one thing."""
        return list(self._of.get(subjects.removesuffix(".*"), ()))


class EmptyBucket(Bucket):
    """A bucket in which no worker left a manifest."""

    def __init__(self) -> None:
        return None

    def key(self, *parts: str) -> str:
        return "/".join(parts)

    async def get(self, key: str) -> bytes:
        await asyncio.sleep(0.01)
        raise ObjectMissing(key)
