"""Snapshots of a dispatcher: it starts from the newest one that fits, and writes further ones while it leads.

A snapshot is only ever a shorter way to the state that the whole history gives. Whatever is doubtful about one, the
history is folded instead, which takes long and is never wrong (docs/adr/0037).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from contracts.errors import SaccadeError
from contracts.events.base import Cursor
from kit.bus.event_store import EventStore
from kit.bus.lineage import Lineage, StreamPosition, open_epoch_if_behind, position_of_stream
from kit.bus.tail import EventTail
from kit.snapshot_store import SnapshotStore, StoredSnapshot
from services.dispatcher.snapshots.dispatcher_fold import DispatcherFold
from services.dispatcher.snapshots.fold_state import FoldState
from services.dispatcher.snapshots.snapshot_file import (
    SnapshotHeader,
    SnapshotInvalid,
    decode_snapshot,
    encode_snapshot,
    header_of,
)

log = logging.getLogger(__name__)

_ERASURES: Final = "saccade.evt._system.erasure.>"
_LOOK_S: Final = 1.0
_ERROR_RETRY_S: Final = 30.0
#: Time for which a start waits for a bucket or a bus that does not answer, before it folds the whole history.
_START_TIMEOUT_S: Final = 15.0
#: After a snapshot, times that its writing took: it shares the interpreter with the event loop.
_REST_SHARE: Final = 20.0


class Snapshots:
    """Snapshots of one dispatcher."""

    def __init__(
        self,
        fold: DispatcherFold,
        tail: EventTail,
        store: SnapshotStore | None,
        *,
        every_events: int,
        is_leader: Callable[[], bool],
    ) -> None:
        """``tail`` folds events into ``fold``; without a ``store``, or every 0 events, there are no snapshots."""
        self._fold, self._tail = fold, tail
        self._store = store if every_events else None
        self._every_events = every_events
        self._is_leader = is_leader
        #: Sequence of the newest snapshot that this process has read or written.
        self._newest = 0
        self._kept: list[StoredSnapshot] = []
        self._writing = asyncio.Lock()
        #: Sequence that the fold must have reached, because of an erasure, before a snapshot is taken.
        self._not_before = 0
        #: Snapshots that this process wrote.
        self.written = 0

    # ---- start

    async def restore(self) -> Cursor:
        """Restore the newest snapshot that fits and return where to go on; sequence 0 where none fits."""
        if self._store is None:
            return Cursor("", 0)
        end = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                return await self._restore(self._store)
            except SaccadeError as error:
                if time.monotonic() >= end:
                    log.warning("snapshots cannot be read, so the whole history is folded: %s", error.message)
                    return Cursor("", 0)
                await asyncio.sleep(0.5)

    async def _restore(self, store: SnapshotStore) -> Cursor:
        """Restore the newest snapshot that fits.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        began = time.monotonic()
        for stored in await store.all():
            try:
                if (data := await store.read(stored)) is None:
                    continue
                header, state = await asyncio.to_thread(decode_snapshot, data)
                await self._check(header)
            except SnapshotInvalid as reason:
                log.warning("the snapshot %s is not used: %s", stored.key, reason)
                continue
            self._fold.restore(state)
            self._newest, self._kept = header.sequence, [stored]
            seconds = time.monotonic() - began
            log.info("going on from a snapshot at sequence %d, read in %.1f s", header.sequence, seconds)
            return Cursor(header.epoch, header.sequence)
        return Cursor("", 0)

    async def _check(self, header: SnapshotHeader) -> None:
        """Check that a snapshot belongs to today's stream, and that all events after it are there.

        Raises:
            SnapshotInvalid: it does not, or they are not.
            SaccadeError: BUS_UNAVAILABLE.
        """
        client, stream = self._tail.store.client, self._tail.store.stream
        # It proves how far the stream had come: if it ends before that, its files were set back (docs/adr/0033).
        await open_epoch_if_behind(client, stream, Cursor(header.epoch, header.reached))
        check_position(header, await position_of_stream(client, stream))
        erased, _ = await EventStore(client, stream).batch(header.sequence, _ERASURES, size=1)
        if erased:
            raise SnapshotInvalid("something was erased since")

    @property
    def needed(self) -> int | None:
        """First sequence that a start from the oldest kept snapshot reads; None without snapshots."""
        if self._store is None:
            return None
        return min((stored.sequence for stored in self._kept), default=0) + 1

    # ---- while leading

    async def run(self) -> None:
        """Write snapshots until cancelled."""
        if self._store is None:
            await asyncio.Event().wait()
            return
        while True:
            rest_s = _LOOK_S
            try:
                async with self._writing:
                    if self._is_due():
                        rest_s = max(rest_s, _REST_SHARE * await self._write(self._store))
            except SaccadeError as error:
                log.warning("no snapshot is written at the moment: %s", error.message)
                rest_s = _ERROR_RETRY_S
            await asyncio.sleep(rest_s)

    def _is_due(self) -> bool:
        # No snapshot passes a failed event before its dead letter is stored: a start from it would skip the event.
        if self._tail.dead_letters.unsettled or self._tail.last < self._not_before:
            return False
        return self._tail.last >= self._newest + self._every_events

    async def _write(self, store: SnapshotStore) -> float:
        """Write a snapshot and delete those before the last two; return the seconds that its encoding took.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        began = time.monotonic()
        # In one step of the event loop: no event can be folded between its parts.
        state, position = self._fold.capture(), Cursor(self._tail.epoch, self._tail.last)
        data = await asyncio.to_thread(_encoded, state, position)
        seconds = time.monotonic() - began
        if not self._is_leader():
            return seconds
        stored = await store.write(position.epoch, position.sequence, data)
        self._newest, self._kept = position.sequence, [*self._kept, stored][-2:]
        self.written += 1
        log.info("snapshot at sequence %d: %d bytes in %.2f s", position.sequence, len(data), seconds)
        for other in await store.all():
            if other not in self._kept and self._is_leader():
                await store.delete(other)
        return seconds

    # ---- erasures

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Write nothing meanwhile, and afterwards only once everything that is stored by then is folded."""
        async with self._writing:
            yield
            if self._store is not None:
                self._not_before = (await position_of_stream(self._tail.store.client, self._tail.store.stream)).last

    async def erase(self) -> None:
        """Delete all snapshots: they may hold what is being erased.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        if self._store is not None:
            for stored in await self._store.all():
                await self._store.delete(stored)
            self._newest, self._kept = 0, []

    async def count(self) -> int:
        """Return how many snapshots there are; a server may list one for some seconds after it was deleted.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        if self._store is None:
            return 0
        return sum([await self._store.read(stored) is not None for stored in await self._store.all()])


def check_position(header: SnapshotHeader, stream: StreamPosition) -> None:
    """Check that a stream has what a snapshot was made of, and all that came after it.

    Raises:
        SnapshotInvalid: it has not.
    """
    lineage: Lineage = stream.lineage
    if lineage.position_of(Cursor(header.epoch, header.reached)) is None or header.reached > stream.last:
        raise SnapshotInvalid("it is of another lineage of the stream")
    if stream.first > header.sequence + 1:
        raise SnapshotInvalid("the stream has deleted events that came after it")


def _encoded(state: FoldState, position: Cursor) -> bytes:
    return encode_snapshot(header_of(state, position.epoch, position.sequence), state)
