"""A stream with events, its archive in a bucket, and writers of it: what a leading dispatcher has, without its jobs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from nats.aio.client import Client

from contracts.audit import ChainVerifier
from contracts.errors import SaccadeError
from contracts.ids import new_id
from contracts.streams import OPS
from kit.bucket import Bucket, open_bucket
from kit.bus.audit_log import AuditLog
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import request
from kit.history.archive_reader import ArchiveReader
from kit.history.event_lines import HistoryEvent
from kit.history.history import History
from kit.history.segment_store import SegmentStore, StoredSegment
from kit.history.stream_reader import StreamReader
from services.dispatcher.archive.archive_writer import ArchiveWriter
from services.dispatcher.settings import ArchiveWriterSettings
from tests.harness.servers.embedded import NatsServer, S3Server

VERBS = ("submitted", "queued", "starting", "started", "succeeded")


@dataclass
class ArchiveStage:
    """The stream and its archive."""

    client: Client
    bucket: Bucket
    settings: ArchiveWriterSettings
    #: Every event that was stored, by what the stream said then.
    events: list[HistoryEvent] = field(default_factory=list)

    @property
    def store(self) -> EventStore:
        """The stream."""
        return EventStore(self.client)

    @property
    def segments(self) -> SegmentStore:
        """The archive's objects, as a process sees them that has just started."""
        return SegmentStore(self._opened)

    @property
    def history(self) -> History:
        """History, as a process reads it that has just started."""
        return History(self.store, ArchiveReader(self.segments))

    async def _opened(self) -> Bucket:
        return self.bucket

    def writer(self, *, leads: bool = True) -> ArchiveWriter:
        """Return a writer, as a process has it that has just started."""
        return ArchiveWriter(
            StreamReader(self.store),
            ArchiveReader(self.segments),
            AuditLog(EventStore(self.client, OPS.name), "/dispatcher"),
            self.settings,
            lambda: leads,
        )

    async def publish(self, count: int, *, tenants: tuple[str, ...] = ("acme", "beta"), size: int = 40) -> None:
        """Store events of some jobs, and remember them."""
        after = self.events[-1].sequence if self.events else 0
        jetstream = self.client.jetstream(publish_async_max_pending=1000)
        jobs = [(random.choice(tenants), new_id("job")) for _ in range(max(1, count // len(VERBS)))]
        waiting = []
        for number in range(count):
            tenant, job_id = jobs[number // len(VERBS) % len(jobs)]
            subject = f"saccade.evt.{tenant}.job.{job_id}.{VERBS[number % len(VERBS)]}"
            body = b'{"n":%d,"text":"%b"}' % (number, bytes(random.choices(b"abcdefgh", k=size)))
            waiting.append(await jetstream.publish_async(subject, body, headers={"Nats-Msg-Id": new_id("evt")}))
        await asyncio.gather(*waiting)
        await self.remember(after)

    async def remember(self, after: int) -> None:
        """Remember what the stream holds after a sequence."""
        self.events = [event for event in self.events if event.sequence <= after]
        reader = StreamReader(self.store)
        position: int | None = after
        while position is not None:
            found, position = await reader.batch(position, (">",))
            self.events += found

    async def archive_all(self, writer: ArchiveWriter | None = None) -> None:
        """Write every segment that is full."""
        writer = writer or self.writer()
        while await writer.write_next():
            pass

    async def purge_before(self, sequence: int) -> None:
        """Delete the oldest events of the stream, as its retention does."""
        answer = await request(self.client, "STREAM.PURGE.EVENTS", {"seq": sequence})
        assert answer["success"], answer

    async def purge_archived(self) -> None:
        """Delete from the stream what is archived."""
        await self.purge_before((await self.stored())[-1].last + 1)

    async def stored(self) -> list[StoredSegment]:
        """Return the segments in the bucket, of all epochs of today's lineage."""
        lineage = (await self.history.bounds()).lineage
        return [segment for epoch in lineage.epochs for segment in await self.segments.of_epoch(epoch.id)]

    async def audit(self) -> tuple[ChainVerifier, list[str]]:
        """Verify the audit log; return it with the verbs of its records."""
        chain, verbs = ChainVerifier(), []
        async for stored in EventStore(self.client, OPS.name).history(0):
            record = chain.add(stored.sequence, stored.subject, stored.body)
            assert record
            verbs.append(record.verb)
        assert chain.faults == []
        return chain, verbs


@asynccontextmanager
async def archive_stage(nats: NatsServer, s3: S3Server, **settings: float) -> AsyncIterator[ArchiveStage]:
    """Open a stage; without settings a segment has about 200 events and never ends by time."""
    async with AsyncExitStack() as stack:
        bucket = await stack.enter_async_context(open_bucket(s3.settings))
        await bucket.create()
        client = await connect(nats.settings, "test")
        stack.push_async_callback(client.close)
        await declare(client)
        given = {"segment_bytes": 40_000, "segment_s": 3600.0, "poll_s": 0.05} | settings
        yield ArchiveStage(client, bucket, ArchiveWriterSettings.model_validate(given))


async def refused(reading: AsyncIterator[HistoryEvent]) -> tuple[list[HistoryEvent], SaccadeError | None]:
    """Read until it ends or is refused; return what was read, and the error."""
    found: list[HistoryEvent] = []
    try:
        async for event in reading:
            found.append(event)  # noqa: PERF401 - what was read before an error is kept
    except SaccadeError as error:
        return found, error
    return found, None
