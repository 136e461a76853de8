"""The event store and the bucket as a dispatcher uses them, in memory: for replays, and for tests in virtual time."""

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

    def __init__(self, chance: random.Random | None = None) -> None:
        """Create an empty store; answers take some milliseconds, drawn from ``chance``, or none without it."""
        self.log: list[StoredEvent] = []
        #: Subscribers of stored events, in order.
        self.heard: asyncio.Queue[StoredEvent] = asyncio.Queue()
        self._of: dict[str, list[StoredEvent]] = {}
        self._ids: dict[str, int] = {}
        self._chance = chance

    async def publish(
        self, message: Message, *, after: int | None = None, among: str | None = None, **_: Any
    ) -> int:  # fmt: skip
        """Store an event under the condition, and return its sequence.

        Raises:
            Conflict: the last sequence is another one.
        """
        await self._take_time()
        if message.id in self._ids:
            return self._ids[message.id]
        thing = message.subject.rpartition(".")[0]
        assert among in (None, f"{thing}.*")
        known = self._of.get(thing, ())
        if after is not None and after != (known[-1].sequence if known else 0):
            raise Conflict(message.subject)
        stored = StoredEvent(self.next_sequence, message.subject, message.body)
        self.add(stored, message.id)
        self.heard.put_nowait(stored)
        await self._take_time()
        return stored.sequence

    @property
    def next_sequence(self) -> int:
        """Return the sequence of the next event."""
        return self.log[-1].sequence + 1 if self.log else 1

    def add(self, stored: StoredEvent, event_id: str) -> None:
        """Add an event as it was stored elsewhere; its sequence must be greater than those before."""
        self.log.append(stored)
        self._of.setdefault(stored.subject.rpartition(".")[0], []).append(stored)
        self._ids[event_id] = stored.sequence

    async def load(
        self,
        subjects: str,
        deadline_s: float = 5.0,  # noqa: ARG002
        *,
        up_to: int | None = None,
        with_headers: bool = False,  # noqa: ARG002 - no event here has any
    ) -> list[StoredEvent]:
        """Return the newest event of each subject of one thing, in order; with ``up_to`` as of that sequence."""
        await self._take_time()
        newest = {each.subject: each for each in self.of(subjects) if up_to is None or each.sequence <= up_to}
        return sorted(newest.values(), key=lambda each: each.sequence)

    async def history(self, after: int, subjects: str = ">") -> AsyncIterator[StoredEvent]:
        """Yield the events after a sequence, of all things or of one."""
        for each in self.log if subjects == ">" else self.of(subjects):
            if each.sequence > after:
                yield each

    def of(self, subjects: str) -> list[StoredEvent]:
        """Return all events of one thing."""
        return list(self._of.get(subjects.removesuffix(".*"), ()))

    async def _take_time(self) -> None:
        if self._chance is not None:
            await asyncio.sleep(self._chance.uniform(0.001, 0.02))


class EmptyBucket(Bucket):
    """A bucket in which no worker left a manifest."""

    def __init__(self) -> None:
        """Create it without a connection."""

    def key(self, *parts: str) -> str:
        """Return the key of an object."""
        return "/".join(parts)

    async def get(self, key: str) -> bytes:
        """Find nothing.

        Raises:
            ObjectMissing: always.
        """
        await asyncio.sleep(0.01)
        raise ObjectMissing(key)
