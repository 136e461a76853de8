"""A tail that stops in the middle of the history until a test lets it go on: what a long history does for minutes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from kit.bus.tail import EventTail, OlderEvents


@dataclass
class Hold:
    """Where tails stop while they catch up, and until when."""

    until_sequence: int
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def reached(self, tail: EventTail) -> None:
        """Wait until a tail stands where it is held; for ``running_gateway``."""
        while not tail.epoch or tail.last < self.until_sequence:
            await asyncio.sleep(0.01)

    async def release(self, tail: EventTail) -> None:
        """Let all go on, and wait until a tail has caught up."""
        self.released.set()
        async with asyncio.timeout(20):
            await tail.caught_up.wait()


@contextmanager
def held_tails(monkeypatch: pytest.MonkeyPatch, until_sequence: int) -> Iterator[Hold]:
    """Have every tail of EVENTS that catches up stop after an event, and before it reads the archive."""
    hold, catch_up, read_older = Hold(until_sequence), EventTail._catch_up, EventTail._read_older

    async def held(tail: EventTail, until: int = 0) -> None:
        if tail.store.stream == "EVENTS" and not hold.released.is_set():
            while tail.last < hold.until_sequence:
                found, _ = await tail.store.batch(tail.last, size=hold.until_sequence - tail.last)
                for stored in found:
                    tail._handle(stored)
            await hold.released.wait()
        await catch_up(tail, until)

    async def held_before_archive(tail: EventTail, older: OlderEvents) -> bool:
        await hold.released.wait()
        return await read_older(tail, older)

    with monkeypatch.context() as patched:
        patched.setattr(EventTail, "_catch_up", held)
        patched.setattr(EventTail, "_read_older", held_before_archive)
        yield hold
