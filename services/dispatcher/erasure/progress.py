"""Progress of an erasure, in its stored request: what a store loses is recorded before it is deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from contracts.erasure import ErasureRequest, request_subject
from contracts.events.base import Message
from contracts.ids import new_id
from kit.bus.event_store import EventStore


@dataclass(frozen=True)
class StoreContents:
    """Contents of one store that an erasure covers, and how they are deleted."""

    count: int
    delete: Callable[[], Awaitable[object]]


class ErasureProgress:
    """Counts of one attempt; a dispatcher that takes over goes on counting.

    What was found and is gone later has been removed by this erasure, whichever dispatcher did it and whether or not
    it lived to say so. So the sum of all attempts is what one alone would have counted.
    """

    def __init__(self, store: EventStore, request: ErasureRequest, sequence: int) -> None:
        """Begin an attempt at the request that is stored at ``sequence``."""
        self.request = request.model_copy(update={"attempts": request.attempts + 1})
        self._store = store
        self._sequence = sequence

    async def found(self, store: str, count: int) -> None:
        """Record what was found in a store, before it is deleted; what was found there earlier and is gone is removed.

        Raises:
            Conflict: another dispatcher works on the same request.
            SaccadeError: BUS_UNAVAILABLE.
        """
        gone = max(0, self.request.found.get(store, 0) - count)
        await self._record(store, gone, count)

    async def removed(self, store: str) -> None:
        """Record that all that was found in a store is deleted.

        Raises:
            Conflict, SaccadeError: as ``found``.
        """
        await self._record(store, self.request.found.get(store, 0), 0)

    async def _record(self, store: str, gone: int, left: int) -> None:
        removed = {**self.request.removed, store: self.request.removed.get(store, 0) + gone}
        found = {**self.request.found, store: left}
        self.request = self.request.model_copy(update={"removed": removed, "found": found})
        subject = request_subject(self.request.id)
        message = Message(subject, new_id("evt"), self.request.model_dump_json().encode())
        self._sequence = await self._store.publish(message, after=self._sequence, among=subject)
