"""Store of all callbacks: in memory, read from the CALLBACKS stream; changes are conditional publishes to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from contracts.callback import Callback
from contracts.errors import SaccadeError
from contracts.streams import LIVE_CALLBACKS
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from kit.bus.leader_reads import newest_sequence
from kit.bus.tail import EventTail

log = logging.getLogger(__name__)

_RETRY_S: Final = 1.0
_POLL_S: Final = 5.0


@dataclass(frozen=True)
class StoredCallback:
    """A callback and the sequence of its record."""

    callback: Callback
    sequence: int


class CallbackStore:
    """The callbacks that have not ended. Every notifier has one and follows changes made by any process."""

    def __init__(self, store: EventStore, on_change: Callable[[Callback], None]) -> None:
        """Use the store of the CALLBACKS stream; ``on_change`` gets each record, in the order of the stream."""
        self._store = store
        self._on_change = on_change
        self._active: dict[str, StoredCallback] = {}
        self._ids: dict[str, str] = {}
        #: Sequences of ends that were stored here, until the tail reaches them: what it still passes is older.
        self._ended: dict[str, int] = {}
        self._tail = EventTail(store, self._on_record, live=LIVE_CALLBACKS, name="callbacks")

    async def run(self) -> None:
        """Follow all changes.

        Raises:
            EpochChanged: the stream was recreated.
        """
        await self._tail.run()

    async def wait_until_current(self) -> None:
        """Wait until all that is stored now was read: another process may have delivered it.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        client, stream = self._store.client, self._store.stream
        # Asked each time: what was the newest may be deleted before it is read.
        while not await self._tail.wait_for(last := await newest_sequence(client, stream), _POLL_S):
            log.info("callbacks: reading up to %d", last)

    def active(self) -> Iterator[Callback]:
        """Yield the callbacks that have not ended."""
        return (found.callback for found in list(self._active.values()))

    def find(self, subject: str) -> StoredCallback | None:
        """Return a callback that has not ended."""
        return self._active.get(subject)

    def subject_of(self, aggregate_id: str) -> str | None:
        """Return the subject of the callback that waits for a job or an upload."""
        return self._ids.get(aggregate_id)

    async def put(self, changed: Callback, after: int) -> None:
        """Store a change, however long that takes.

        Raises:
            Conflict: another process has changed it meanwhile; the newer record was read.
        """
        message = changed.message()
        while True:
            try:
                sequence = await self._store.publish(message, after=after)
            except Conflict:
                await self._read(changed.subject)
                raise
            except SaccadeError as error:
                log.warning("callbacks: a change is not stored yet: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                self._apply(changed, sequence)
                return

    async def _read(self, subject: str) -> None:
        try:
            records = await self._store.load(subject)
            for stored in records:
                self._on_record(stored)
            if not records:  # expired or purged: its follower would repeat its request without end
                log.warning("callbacks: %s is no longer stored", subject)
                self._forget(subject)
        except SaccadeError as error:
            log.warning("callbacks: %s", error)
            await asyncio.sleep(_RETRY_S)

    def _on_record(self, stored: StoredEvent) -> None:
        try:
            callback = Callback.model_validate_json(stored.body)
        except ValidationError as error:
            log.warning("callbacks: %s cannot be read: %s", stored.subject, error.errors(include_input=False)[0]["msg"])
            return
        if self._apply(callback, stored.sequence):
            self._on_change(callback)
        if self._ended.get(callback.subject, 0) <= stored.sequence:
            self._ended.pop(callback.subject, None)

    def _apply(self, callback: Callback, sequence: int) -> bool:
        """Keep a record unless it is older than the known one; return whether it was kept."""
        known = self._active.get(callback.subject)
        if sequence <= (known.sequence if known else self._ended.get(callback.subject, 0)):
            return False
        self._forget(callback.subject)
        if callback.outcome is not None:
            self._ended[callback.subject] = sequence
            return True
        self._active[callback.subject] = StoredCallback(callback, sequence)
        self._ids |= dict.fromkeys((callback.job_id, *callback.upload_ids), callback.subject)
        return True

    def _forget(self, subject: str) -> None:
        if known := self._active.pop(subject, None):
            for aggregate_id in (known.callback.job_id, *known.callback.upload_ids):
                self._ids.pop(aggregate_id, None)
