"""Deletes messages of streams, and has the server overwrite them in its files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from kit.bus.connection import request
from kit.bus.event_store import EventStore, StoredEvent
from services.dispatcher.erasure.coverage import Covered

_BATCH: Final = 500
_PARALLEL: Final = 64
_NO_MESSAGE: Final = frozenset({10037, 10043, 10057})
_STREAM_MISSING: Final = 10059


class StreamEraser:
    """Finds and deletes the messages that an erasure covers."""

    def __init__(self, client: Client) -> None:
        """Delete over ``client``."""
        self._client = client

    async def find(self, covered: Covered, after: int = 0, until: int | None = None) -> AsyncIterator[StoredEvent]:
        """Yield the covered messages after a sequence and up to another.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        store = EventStore(self._client, covered.stream)
        remaining = 1
        while remaining:
            found, remaining = await store.batch(after, covered.subjects, _BATCH, with_headers=True)
            if not found:
                return
            for stored in found:
                if until is not None and stored.sequence > until:
                    return
                if covered.chooses(stored):
                    yield stored
            after = found[-1].sequence

    async def delete(self, stream: str, sequences: Sequence[int]) -> int:
        """Delete messages and have their bytes overwritten; return how many there were.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        semaphore = asyncio.Semaphore(_PARALLEL)

        async def delete(sequence: int) -> bool:
            async with semaphore:
                answer = await request(
                    self._client, f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": False}
                )
            error = answer.get("error")
            if error and error.get("err_code") not in _NO_MESSAGE:
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {error.get('description')}.")
            return not error

        return sum(await asyncio.gather(*(delete(sequence) for sequence in sequences)))

    async def erase(self, covered: Sequence[Covered]) -> int:
        """Delete all covered messages; return how many there were.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        count = 0
        for part in covered:
            waiting: list[int] = []
            async for stored in self.find(part):
                waiting.append(stored.sequence)
                if len(waiting) == _BATCH:
                    count += await self.delete(part.stream, waiting)
                    waiting.clear()
            count += await self.delete(part.stream, waiting)
        return count

    async def count(self, covered: Sequence[Covered]) -> int:
        """Return how many covered messages there are.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        count = 0
        for part in covered:
            async for _ in self.find(part):
                count += 1
        return count
