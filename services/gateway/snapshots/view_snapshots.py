"""Snapshots of the view in the bucket: gateways write them now and then, and one without a view starts from the newest.

A snapshot is only ever a shorter way to the view that the whole history gives. Whatever is doubtful about one, the
history is folded instead (docs/adr/0051).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import sqlite3
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from contracts.errors import SaccadeError
from contracts.events.base import Cursor
from contracts.streams import EVENTS
from kit.bus.event_store import EventStore
from kit.bus.lineage import StreamPosition, open_epoch_if_behind, position_of_stream
from kit.bus.tail import EventTail
from kit.snapshot_store import SnapshotStore, StoredSnapshot
from services.gateway.aggregates.view import FILE_NAME, GatewayView
from services.gateway.aggregates.view_gap import ERASURES_OF_ALL
from services.gateway.snapshots.snapshot_file import ViewSnapshotHeader, ViewSnapshotInvalid, pack, unpack
from services.gateway.snapshots.snapshot_record import SnapshotRecord

log = logging.getLogger(__name__)

SERVICE: Final = "gateway"
#: Interval of the looks at the bucket; gateways that start together do not all look at the same moment.
_LOOK_S: Final = 60.0
#: Snapshots that are kept: a gateway may read one while the next one is written.
_KEPT: Final = 2
#: Age from which a snapshot is replaced if anything was stored since.
_REPLACED_AFTER: Final = timedelta(days=1)
#: Age from which it is deleted: the view forgets what is older than the stream's events, and snapshots must too.
_MOST_AGE: Final = timedelta(days=7)
#: Time for which a start waits for a bucket or a bus that does not answer, before it folds the whole history.
_START_TIMEOUT_S: Final = 15.0
_PACKED, _UNPACKED, _FETCHED = "snapshot.written", "snapshot.view", "snapshot.fetched"


async def _refusal_of(client: Client, epoch: str, sequence: int) -> ViewSnapshotInvalid | None:
    """Return why a view that ends with an event is not to be used; None if it is what was folded by then.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    stream = await position_of_stream(client, EVENTS.name)
    if not _is_in(stream, epoch, sequence):
        return ViewSnapshotInvalid("it is of another lineage of the stream", "lineage")
    if stream.first > sequence + 1:
        return ViewSnapshotInvalid("the stream has deleted events that came after it", "deleted")
    # An erasure that was deleted by now is before the stream's first event, and so before the snapshot.
    erased, _ = await EventStore(client, EVENTS.name).batch(sequence, ERASURES_OF_ALL, size=1)
    return ViewSnapshotInvalid("something was erased since", "erased") if erased else None


def _is_in(stream: StreamPosition, epoch: str, sequence: int) -> bool:
    return stream.lineage.position_of(Cursor(epoch, sequence)) is not None and sequence <= stream.last


async def fetch_view(store: SnapshotStore, client: Client, folder: Path, record: SnapshotRecord | None = None) -> bool:
    """Write the view of the newest snapshot that fits into a folder that has none; return whether there was one.

    ``record`` is told what happens.
    """
    record = record or SnapshotRecord()
    end = time.monotonic() + _START_TIMEOUT_S
    while True:
        try:
            return await _fetch(store, client, folder, record)
        except SaccadeError as error:
            if time.monotonic() >= end:
                log.warning("snapshots cannot be read, so the whole history is folded: %s", error.message)
                return False
            await asyncio.sleep(0.5)
        except OSError as error:
            log.warning("no snapshot can be written to the disk, so the whole history is folded: %s", error)
            return False
        finally:
            _clear(folder)


async def _fetch(store: SnapshotStore, client: Client, folder: Path, record: SnapshotRecord) -> bool:
    """Write the view of the newest snapshot that fits.

    Raises:
        SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        OSError: the disk does not take it.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for stored in await store.all():
        try:
            if stored.sequence <= (await position_of_stream(client, EVENTS.name)).last:
                await _require_fit(client, stored.epoch, stored.sequence)
            with record.fetching(stored, folder / _FETCHED):
                if not await store.fetch(stored, folder / _FETCHED):
                    continue
            most_bytes = shutil.disk_usage(folder).free
            header = await asyncio.to_thread(unpack, folder / _FETCHED, folder / _UNPACKED, most_bytes)
            if (header.epoch, header.sequence) != (stored.epoch, stored.sequence):
                raise ViewSnapshotInvalid("it is not the one that its key names")
            await asyncio.to_thread(_check_view, folder / _UNPACKED, header)
            # It proves how far the stream had come: if it ends before that, its files were set back (docs/adr/0033).
            await open_epoch_if_behind(client, EVENTS.name, Cursor(header.epoch, header.sequence))
            await _require_fit(client, header.epoch, header.sequence)  # something may have been erased meanwhile
        except ViewSnapshotInvalid as reason:
            log.warning("the snapshot %s is not used: %s", stored.key, reason)
            record.refused[reason.reason] += 1
            continue
        for suffix in ("-wal", "-shm"):  # SQLite would take them for the log of this file
            (folder / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
        (folder / _UNPACKED).rename(folder / FILE_NAME)
        record.used(stored, began)
        seconds = record.seconds["fetch"]
        log.info("going on from a snapshot at sequence %d, read in %.1f s", header.sequence, seconds)
        return True
    return False


async def _require_fit(client: Client, epoch: str, sequence: int) -> None:
    """Check that a snapshot is of today's stream, and has nothing that was erased since.

    Raises:
        ViewSnapshotInvalid: it is not, or it has.
        SaccadeError: BUS_UNAVAILABLE.
    """
    if refusal := await _refusal_of(client, epoch, sequence):
        raise refusal


def _check_view(path: Path, header: ViewSnapshotHeader) -> None:
    """Check that a file is a view that ends where its header says.

    Raises:
        ViewSnapshotInvalid: it is not.
    """
    try:
        database = sqlite3.connect(f"file:{path}?immutable=1", uri=True)
        try:
            found = database.execute("SELECT epoch, sequence FROM position").fetchone()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise ViewSnapshotInvalid(f"it has no view: {error}") from error
    if found != (header.epoch, header.sequence):
        raise ViewSnapshotInvalid("its view ends with another event")


def _clear(folder: Path) -> None:
    for name in (_PACKED, _UNPACKED, _FETCHED):
        (folder / name).unlink(missing_ok=True)


class ViewSnapshots:
    """Writes snapshots of a gateway's view, and deletes those that must not be used any more."""

    def __init__(
        self, view: GatewayView, tail: EventTail, store: SnapshotStore | None, folder: Path, *, every_events: int
    ) -> None:
        """``folder`` is that of the view; without a ``store``, or every 0 events, there are no snapshots."""
        self._view, self._tail, self._folder = view, tail, folder
        self._store = store if every_events else None
        self._every_events = every_events
        self.record = SnapshotRecord()

    async def run(self) -> None:
        """Write snapshots until cancelled, once the view has caught up."""
        if self._store is None:
            await asyncio.Event().wait()
            return
        _clear(self._folder)  # of a process that was killed
        await self._tail.caught_up.wait()
        while True:
            await asyncio.sleep(random.uniform(0.5, 1) * _LOOK_S)  # noqa: S311 - spreads gateways, keeps no secret
            try:
                await self.look(self._store)
            except SaccadeError as error:
                self.record.results["failed"] += 1
                log.warning("no snapshot is written at the moment: %s", error.message)
            except OSError as error:
                self.record.results["failed"] += 1
                log.warning("no snapshot is written: %s", error)

    async def look(self, store: SnapshotStore) -> None:
        """Delete what does not fit any more, and write a snapshot if it is time.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
            OSError: the disk is full.
        """
        fitting: list[StoredSnapshot] = []
        for stored in await store.all():
            refusal = await _refusal_of(self._tail.store.client, stored.epoch, stored.sequence)
            reason = str(refusal or "")
            if stored.stored_at and datetime.now(UTC) - stored.stored_at >= _MOST_AGE:
                reason = "it is old"
            if reason or len(fitting) == _KEPT:
                log.info("the snapshot %s is deleted: %s", stored.key, reason or "there are newer ones")
                await store.delete(stored)
            else:
                fitting.append(stored)
        self.record.newest = fitting[0] if fitting else None
        if self._is_due(fitting[0] if fitting else None):
            await self._write(store)

    def _is_due(self, newest: StoredSnapshot | None) -> bool:
        if newest is None or newest.stored_at is None:
            return bool(self._view.sequence)
        behind: int = self._view.sequence - newest.sequence
        return behind >= self._every_events or (behind > 0 and datetime.now(UTC) - newest.stored_at >= _REPLACED_AFTER)

    async def _write(self, store: SnapshotStore) -> None:
        """Write a snapshot.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
            OSError: the disk is full.
        """
        path = self._folder / _PACKED
        began = time.monotonic()
        if self._view.damage or (descriptor := self._view.freeze()) is None:
            return
        rewrites = self._view.file.rewrites
        packing, stop = None, threading.Event()
        try:
            size_bytes = os.fstat(descriptor).st_size
            if shutil.disk_usage(self._folder).free < size_bytes:
                self.record.results["failed"] += 1
                log.warning("no snapshot is written: the disk of GATEWAY_DATA_DIR has no room for one")
                return
            header = ViewSnapshotHeader(epoch=self._view.epoch, sequence=self._view.sequence, size_bytes=size_bytes)
            packing = asyncio.ensure_future(asyncio.to_thread(pack, header, descriptor, path, stop))
            packed_bytes = await asyncio.shield(packing)
        finally:
            stop.set()
            if packing is not None and not packing.done():  # cancelled: the file is open until it ends
                with suppress(OSError):
                    await packing
            self._view.file.thaw()
        try:
            if self._view.file.rewrites != rewrites or self._view.damage:
                return  # something was erased meanwhile
            sent = await store.send(header.epoch, header.sequence, path)
        finally:
            path.unlink(missing_ok=True)
        self.record.stored(replace(sent, stored_at=datetime.now(UTC), size_bytes=packed_bytes), began)
        seconds = self.record.seconds["store"]
        log.info(
            "snapshot at sequence %d: %d bytes of %d in %.1f s", header.sequence, packed_bytes, size_bytes, seconds
        )
