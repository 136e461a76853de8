"""Deletes messages of streams, and has the server overwrite in its files those that are erased."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Sequence
from typing import Final

from nats.aio.client import Client

from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import delete_message
from kit.tasks import map_concurrently
from services.dispatcher.erasure.coverage import Covered
from services.dispatcher.erasure.progress import StoreContents

_BATCH: Final = 500
_PARALLEL: Final = 64


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

    async def delete(self, stream: str, sequences: Sequence[int], *, overwrites: bool = True) -> None:
        """Delete messages; by default, have their bytes overwritten.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """

        async def delete(sequence: int) -> None:
            await delete_message(self._client, stream, sequence, overwrites=overwrites)

        await map_concurrently(delete, sequences, _PARALLEL)

    async def found(self, covered: Sequence[Covered]) -> StoreContents:
        """Return all covered messages, to be deleted.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        parts: list[tuple[str, array[int]]] = []
        for part in covered:
            sequences = array("Q")  # a tenant may have millions
            async for stored in self.find(part):
                sequences.append(stored.sequence)
            parts.append((part.stream, sequences))

        async def delete() -> None:
            for stream, sequences in parts:
                for start in range(0, len(sequences), _BATCH):
                    await self.delete(stream, sequences[start : start + _BATCH])

        return StoreContents(sum(len(sequences) for _, sequences in parts), delete)

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
