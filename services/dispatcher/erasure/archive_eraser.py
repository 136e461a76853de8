"""Writes segments of the archive anew without erased events, and carries the new hashes on through their chain.

What is left out leaves a gap of sequences, as in the stream. Each segment that is written anew is recorded in the audit
log as a new one is: the records tell which hash a segment had before, so that an interrupted erasure goes on, and a
segment that somebody else has changed stays a fault of the chain.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from contracts.audit import SYSTEM, audit_subject
from contracts.streams import EVENTS
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.bus.lineage import position_of_stream
from kit.history.segment_store import SegmentStore, StoredSegment
from kit.history.segments import Segment, SegmentBuilder, SegmentFile
from services.dispatcher.archive.archive_writer import ArchiveWriter
from services.dispatcher.archive.checkpoints import NOUN, REQUESTED, STORED, Checkpoints, as_checkpoint
from services.dispatcher.erasure.coverage import covers_event
from services.dispatcher.erasure.inventory import Inventory
from services.dispatcher.erasure.progress import StoreContents

log = logging.getLogger(__name__)


class ArchiveEraser:
    """Erases events from the archive of the stream EVENTS."""

    def __init__(self, segments: SegmentStore, writer: ArchiveWriter, events: EventStore, audit: AuditLog) -> None:
        """Rewrite ``segments``, whose newest ones ``writer`` appends."""
        self.writer = writer
        self._segments = segments
        self._events = events
        self._audit = audit
        self._checkpoints = Checkpoints(audit)

    async def read(self, inventory: Inventory) -> None:
        """Add to an inventory what the archive tells of the erased jobs and uploads.

        Raises:
            SegmentDamaged, SaccadeError: as ``erase``.
        """
        async for stored in self._with_tenant(inventory):
            file = await self._segments.verified(stored)
            await asyncio.to_thread(_read, file, inventory)

    async def found(self, inventory: Inventory) -> StoreContents:
        """Return the erased events of the archive, to be deleted.

        Raises:
            SegmentDamaged, SaccadeError: as ``erase``.
        """
        return StoreContents(await self.count(inventory), lambda: self.erase(inventory))

    async def erase(self, inventory: Inventory) -> None:
        """Write the segments with erased events anew, and those whose chain changes.

        Raises:
            SegmentDamaged: a segment cannot be read, or is not what was written.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        recorded = await self._recorded()
        key_of = {sha256: key for key, hashes in recorded.items() for sha256 in hashes}
        #: Hash of each segment as it is now.
        current: dict[str, str] = {}
        segments = await self._all()
        newest = {stored.epoch: stored for stored in segments}
        for stored in segments:
            manifest = (await self._segments.index(stored)).manifest
            is_ours = manifest.sha256 in recorded.get(stored.key, {manifest.sha256})
            key_of.setdefault(manifest.sha256, stored.key)
            before = key_of.get(manifest.previous, "")
            previous = current.get(before, manifest.previous)
            if previous != manifest.previous or inventory.request.tenant in manifest.tenants:
                file = await self._segments.verified(stored)
                segment = await asyncio.to_thread(_without, file, inventory, previous)
                if segment.manifest.sha256 != manifest.sha256:
                    await self._store(stored, segment, is_newest=newest[stored.epoch] == stored)
                    manifest = segment.manifest
            if is_ours:
                current[stored.key] = manifest.sha256
            else:
                log.error("segment %s is not the one that was stored: its chain stays broken", stored.key)

    async def count(self, inventory: Inventory) -> int:
        """Return how many erased events the archive holds.

        Raises:
            SegmentDamaged, SaccadeError: as ``erase``.
        """
        found = 0
        async for stored in self._with_tenant(inventory):
            file = await self._segments.verified(stored)
            found += await asyncio.to_thread(_count, file, inventory)
        return found

    async def _store(self, stored: StoredSegment, segment: Segment, *, is_newest: bool) -> None:
        """Write a segment over its former self, and record it."""
        intent = await self._checkpoints.request(stored, segment.manifest, len(segment.data))
        await self._segments.store(segment)
        if is_newest:
            await self._checkpoints.stored(intent)
        else:
            await self._checkpoints.rewritten(intent)

    async def _all(self) -> list[StoredSegment]:
        """Return all segments of all epochs, each after the one whose hash it carries.

        Epochs that the stream does not know any more come first: they are of a stream that was lost.
        """
        position = await position_of_stream(self._events.client, EVENTS.name)
        known = [epoch.id for epoch in position.lineage.epochs]
        lost = [epoch for epoch in await self._segments.epochs() if epoch not in known]
        return [stored for epoch in (*lost, *known) for stored in await self._segments.of_epoch(epoch)]

    async def _with_tenant(self, inventory: Inventory) -> AsyncIterator[StoredSegment]:
        for stored in await self._all():
            if inventory.request.tenant in (await self._segments.index(stored)).manifest.tenants:
                yield stored

    async def _recorded(self) -> dict[str, set[str]]:
        """Return the hashes that each segment has had by the audit log, or was about to have, by key."""
        found: dict[str, set[str]] = {}
        for verb in (REQUESTED, STORED):
            async for record in self._audit.records(subjects=audit_subject(SYSTEM, NOUN, "*", verb)):
                if (checkpoint := as_checkpoint(record)) is not None:
                    found.setdefault(str(record.data.details["key"]), set()).add(checkpoint.sha256)
        return found


def _read(file: SegmentFile, inventory: Inventory) -> None:
    for event in file.events():
        inventory.add_archived(event.subject, event.body)


def _without(file: SegmentFile, inventory: Inventory, previous: str) -> Segment:
    """Return a segment without the erased events."""
    manifest = file.manifest
    builder = SegmentBuilder(manifest.stream, manifest.epoch, manifest.first, previous, manifest.expired)
    for event in file.events():
        if not covers_event(inventory.request, inventory.job_ids, event.subject, event.body):
            builder.add([event])
    return builder.finish(manifest.last)


def _count(file: SegmentFile, inventory: Inventory) -> int:
    request, job_ids = inventory.request, inventory.job_ids
    return sum(covers_event(request, job_ids, event.subject, event.body) for event in file.events())
