"""Erasure from the archive: what is erased is gone, all else reads as before, and the chain of segments holds."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.aio.client import Client

from contracts.audit import Attribution
from contracts.erasure import ErasureRequest, request_subject
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id, stage_job_id
from contracts.streams import ERASURES, OPS
from kit.bus.audit_log import AuditLog
from kit.bus.connection import declare
from kit.bus.event_store import EventStore
from kit.bus.jetstream_api import request
from kit.history.event_lines import HistoryEvent
from kit.history.segment_store import StoredSegment
from kit.history.segments import Segment, SegmentFile, encode_segment
from kit.tasks import end
from services.dispatcher.archive.archive_writer import ArchiveWriter
from services.dispatcher.erasure.archive_eraser import ArchiveEraser
from services.dispatcher.erasure.erasures import Erasures
from services.dispatcher.erasure.stream_eraser import StreamEraser
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.history.archive_stage import VERBS, ArchiveStage, archive_stage
from tests.harness.history.segment_chain import verify_chain
from tests.harness.servers.embedded import NatsServer, S3Server

pytestmark = pytest.mark.anyio


async def request_erasure(stage: ArchiveStage, tenant: str = "acme", **fields: Any) -> ErasureRequest:
    request = ErasureRequest(
        **{
            "id": new_id("ers"),
            "scope": "tenant",
            "tenant": tenant,
            "requested_at": datetime.now(UTC),
            "by": Attribution(by="ada", why="a test", request_id=new_id("req")),
            **fields,
        }
    )
    subject = request_subject(request.id)
    await stage.store.publish(Message(subject, request.id, request.model_dump_json().encode()), after=0, among=subject)
    return request


def erasures(stage: ArchiveStage, writer: ArchiveWriter, eraser: ArchiveEraser | None = None) -> Erasures:
    audit = AuditLog(EventStore(stage.client, OPS.name), "/dispatcher")
    eraser = eraser or ArchiveEraser(stage.segments, writer, stage.store, audit)
    executor = ScriptedExecutor(stage.store, stage.bucket)
    return Erasures(
        stage.client, stage.bucket, executor, UnfinishedJobs(), audit, may_act=lambda: True, archive=eraser, look_s=0.02
    )


async def carry_out(stage: ArchiveStage, erasing: Erasures, erasure_id: str = ">") -> None:
    """Carry out what is requested."""
    task, requests = asyncio.create_task(erasing.run()), EventStore(stage.client, ERASURES.name)
    try:
        async with asyncio.timeout(30):
            while await requests.load(f"saccade.ers.{erasure_id}"):
                assert not task.done()
                await asyncio.sleep(0.02)
    finally:
        await end(task)


async def manifests(stage: ArchiveStage) -> list[Any]:
    return [(await stage.segments.verified(stored)).manifest for stored in await stage.stored()]


async def history(stage: ArchiveStage) -> list[HistoryEvent]:
    last = (await stage.history.bounds()).last
    return [event async for event in stage.history.read(0, last) if event.tenant != "_system"]


async def test_a_tenant_is_gone_from_every_segment_and_the_archive_goes_on(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1500)
        writer = stage.writer()
        await stage.archive_all(writer)
        await stage.purge_before(700)
        kept = [event for event in stage.events if event.tenant != "acme"]
        assert 0 < len(kept) < 1500
        await request_erasure(stage)
        await carry_out(stage, erasures(stage, writer))
        assert await history(stage) == kept
        assert verify_chain(await manifests(stage)) == []
        assert all("acme" not in manifest.tenants for manifest in await manifests(stage))
        before = len(await stage.stored())
        await stage.publish(800)
        await stage.archive_all(writer)
        assert len(await stage.stored()) > before
        assert verify_chain(await manifests(stage)) == []
        later = [event for event in stage.events if event.sequence > 1501]
        assert [event for event in await history(stage) if event.sequence > 1501] == later
        chain, _ = await stage.audit()
        assert chain.open_intents == {}


async def test_one_job_is_erased_and_all_else_stays(nats_server: NatsServer, s3_server: S3Server) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1000)
        await stage.archive_all()
        await stage.purge_archived()
        chosen = stage.events[123]
        await request_erasure(stage, chosen.tenant, scope="job", subject_id=chosen.subject_id)
        await carry_out(stage, erasures(stage, stage.writer()))
        assert await history(stage) == [event for event in stage.events if event.subject_id != chosen.subject_id]
        assert verify_chain(await manifests(stage)) == []


@pytest.mark.parametrize("archived", [True, False])
async def test_a_closed_group_stays_closed_when_an_upload_of_it_is_erased(
    nats_server: NatsServer, s3_server: S3Server, *, archived: bool
) -> None:
    """In the archive as in the stream: without its end it would be open for its other uploads."""
    erased, other = new_id("upl"), new_id("upl")
    group = f"saccade.evt.acme.group.{new_id('grp')}"
    facts = {"rule_id": new_id("rul"), "value": "a", "number": 1, "count": 1}
    events: dict[str, dict[str, Any]] = {"upload_added": facts | {"upload_id": erased}}
    events["closed"] = {"upload_ids": [erased, other], "reason": "complete", "job_id": new_id("job")}
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1, tenants=("beta",))  # the history begins with an event that stays
        for verb, data in events.items():
            body = json.dumps({"data": data}).encode()
            await stage.store.publish(Message(f"{group}.{verb}", new_id("evt"), body))
        await stage.publish(600)
        if archived:
            await stage.archive_all()
            await stage.purge_archived()
        await request_erasure(stage, scope="upload", subject_id=erased)
        await carry_out(stage, erasures(stage, stage.writer()))
        assert [event.subject for event in await history(stage) if event.subject.startswith(group)] == [
            f"{group}.closed"
        ]
        *_, outcome = [stored async for stored in EventStore(stage.client, OPS.name).history(0)]
        assert b"The end of a group keeps the ids" in outcome.body, "the report says so"


async def test_an_erasure_that_dies_after_any_segment_is_gone_on_with(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1500)
        await stage.archive_all()
        kept = [event for event in stage.events if event.tenant != "acme"]
        await request_erasure(stage)
        for _ in range(4):
            dying = _Dying(stage, rng.randrange(4))
            task = asyncio.create_task(erasures(stage, stage.writer(), dying).run())
            async with asyncio.timeout(20):
                await dying.died.wait()
            await end(task)
        await carry_out(stage, erasures(stage, stage.writer()))
        assert await history(stage) == kept
        assert verify_chain(await manifests(stage)) == []


class _Dying(ArchiveEraser):
    """An eraser whose process dies after some segments, half of the time before the record of the last one."""

    def __init__(self, stage: ArchiveStage, segments: int) -> None:
        audit = AuditLog(EventStore(stage.client, OPS.name), "/dispatcher")
        super().__init__(stage.segments, stage.writer(), stage.store, audit)
        self.died = asyncio.Event()
        self._left = segments

    async def _store(self, stored: StoredSegment, segment: Segment, *, is_newest: bool) -> None:
        if self._left <= 0:
            self.died.set()
            await self._segments.store(segment)
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "died")
        self._left -= 1
        await super()._store(stored, segment, is_newest=is_newest)

    async def count(self, inventory: Any) -> int:
        self.died.set()  # there was less to write than this process had in it
        return await super().count(inventory)


async def test_a_segment_that_somebody_else_has_changed_stays_a_fault(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1200)
        await stage.archive_all()
        changed = (await stage.stored())[2]
        file = SegmentFile(await stage.bucket.get(changed.key))
        events = [replace(event, body=event.body.replace(b"a", b"z")) for event in file.events()]
        manifest = file.manifest
        forged = encode_segment(
            events,
            stream=manifest.stream,
            epoch=manifest.epoch,
            first=manifest.first,
            last=manifest.last,
            previous=manifest.previous,
        )
        await stage.bucket.put(changed.key, forged.data)
        assert len(verify_chain(await manifests(stage))) == 1
        await request_erasure(stage)
        await carry_out(stage, erasures(stage, stage.writer()))
        assert all("acme" not in manifest.tenants for manifest in await manifests(stage))
        faults = verify_chain(await manifests(stage))
        assert len(faults) == 1, faults


async def test_an_erasure_does_not_wait_for_one_that_cannot_be_read(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1, tenants=("beta",))  # the history begins with an event that stays
        await stage.publish(199)
        subject = request_subject(new_id("ers"))
        await stage.store.publish(Message(subject, new_id("evt"), b"{}"), after=0, among=subject)
        asked = await request_erasure(stage)
        await carry_out(stage, erasures(stage, stage.writer()), asked.id)
        assert {event.tenant for event in await history(stage)} == {"beta"}


async def test_a_writer_that_begins_before_an_erasure_goes_on_loses_no_events(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(1200)
        await stage.archive_all()
        await stage.purge_archived()
        await request_erasure(stage)
        dying = _Dying(stage, 2)
        task = asyncio.create_task(erasures(stage, stage.writer(), dying).run())
        async with asyncio.timeout(20):
            await dying.died.wait()
        await end(task)
        await stage.publish(400, tenants=("beta",))
        writer = stage.writer()
        await stage.archive_all(writer)
        assert writer.lost_events == 0
        await carry_out(stage, erasures(stage, writer))
        assert await history(stage) == [event for event in stage.events if event.tenant == "beta"]
        assert verify_chain(await manifests(stage)) == []


async def test_a_time_is_found_beside_segments_that_have_lost_all_their_events(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        for tenant in ("beta", "acme", "beta"):
            await stage.publish(600, tenants=(tenant,))
        await stage.archive_all()
        await stage.purge_archived()
        await request_erasure(stage)
        await carry_out(stage, erasures(stage, stage.writer()))
        last = (await stage.stored())[-1].last
        kept = [event for event in stage.events if event.tenant == "beta" and event.sequence <= last]
        for event in (kept[0], kept[300], kept[599], kept[600], kept[-1]):
            found = next(later for later in kept if later.time >= event.time)
            assert await stage.history.sequence_before(event.time) == found.sequence - 1


async def test_who_has_read_a_segment_before_reads_what_is_left_of_it(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server, segment_bytes=300_000) as stage:
        await stage.publish(4000, tenants=("acme", "acme", "beta"))
        await stage.archive_all()
        await stage.purge_archived()
        history, last = stage.history, (await stage.stored())[-1].last
        beta = ("saccade.evt.beta.>",)
        readers = [history.read(0, last), history.read(0, last, beta)]
        began = [[await anext(reader) for _ in range(5)] for reader in readers]
        assert sum((await history.count(0, last - 7)).values()) == last - 7
        moment = stage.events[last // 2].time
        assert await history.sequence_before(moment) == last // 2
        await request_erasure(stage)
        await carry_out(stage, erasures(stage, stage.writer()))
        kept = [event for event in stage.events if event.tenant == "beta" and event.sequence <= last]
        assert await history.sequence_before(moment) == next(e.sequence for e in kept if e.time >= moment) - 1
        for first, reader in zip(began, readers, strict=True):
            read = first + [event async for event in reader]
            assert [event for event in read if event.tenant == "beta"] == kept
        assert [event async for event in history.read(0, last)] == kept
        assert sum((await history.count(0, last - 7)).values()) == len([e for e in kept if e.sequence <= last - 7])


async def test_the_archive_of_a_stream_that_was_lost_is_erased_too(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        await stage.publish(600)
        await stage.archive_all()
        archived = await stage.stored()
        await request(stage.client, "STREAM.DELETE.EVENTS", {})
        await declare(stage.client)
        assert await stage.stored() == []
        await request_erasure(stage)
        await carry_out(stage, erasures(stage, stage.writer()))
        tenants = [(await stage.segments.verified(stored)).manifest.tenants for stored in archived]
        assert [list(found) for found in tenants] == [["beta"]] * len(archived)


async def test_a_dispatcher_that_dies_between_two_events_of_a_stage_leaves_none_of_them(
    nats_server: NatsServer, s3_server: S3Server
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        pipeline = new_id("job")
        for job_id in (pipeline, stage_job_id(pipeline, "find", 1)):
            for verb in VERBS:
                message = Message(f"saccade.evt.acme.job.{job_id}.{verb}", new_id("evt"), b'{"data":{}}')
                await stage.store.publish(message)
        await request_erasure(stage, scope="job", subject_id=pipeline)
        audit = AuditLog(EventStore(stage.client, OPS.name), "/dispatcher")

        def without_archive() -> Erasures:
            executor = ScriptedExecutor(stage.store, stage.bucket)
            return Erasures(
                stage.client, stage.bucket, executor, UnfinishedJobs(), audit, may_act=lambda: True, look_s=0.02
            )

        for _ in range(3):
            dying = without_archive()
            dying._streams = streams = _DyingStreams(stage.client, of="stg_")
            task = asyncio.create_task(dying.run())
            async with asyncio.timeout(20):
                await streams.died.wait()
            await end(task)
        await carry_out(stage, without_archive())
        left = [stored.subject async for stored in stage.store.history(0)]
        assert [subject for subject in left if pipeline.removeprefix("job_") in subject] == []


class _DyingStreams(StreamEraser):
    """An eraser whose process dies after the first message with a certain word in its subject."""

    def __init__(self, client: Client, of: str) -> None:
        super().__init__(client)
        self.died = asyncio.Event()
        self._of = of

    async def delete(self, stream: str, sequences: Sequence[int]) -> int:
        for sequence in sequences:
            found, _ = await EventStore(self._client, stream).batch(sequence - 1, size=1)
            await super().delete(stream, [sequence])
            if self._of in found[0].subject:
                self.died.set()
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "died")
        return len(sequences)
