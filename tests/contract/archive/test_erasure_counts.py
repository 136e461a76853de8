"""An erasure that is interrupted between a deletion and its record reports what one would that was not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from contracts.audit import Attribution
from contracts.erasure import ErasureReport, ErasureRequest, records_of, request_subject
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import ERASURES, OPS
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.tasks import end
from services.dispatcher.erasure.archive_eraser import ArchiveEraser
from services.dispatcher.erasure.erasures import Erasures
from services.dispatcher.erasure.progress import StoreContents
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from tests.harness.dispatch.canaries import found_in_bucket, found_in_streams, seed
from tests.harness.dispatch.scripted_executor import ScriptedExecutor
from tests.harness.history.archive_stage import ArchiveStage, archive_stage
from tests.harness.servers.embedded import NatsServer, S3Server

pytestmark = pytest.mark.anyio

STORES = ("bucket", "streams", "archive", "events")
#: What happens in a store after its deletion, and before that is recorded.
Happens = Callable[[], Awaitable[None]]


class _Interrupted(Erasures):
    """Erasures to which something happens once, when a store's deletion has ended and is not recorded."""

    at = ""
    happens: Happens

    def _stores(self, *given: Any) -> Any:
        def interrupted(find: Callable[[], Awaitable[StoreContents]]) -> Callable[[], Awaitable[StoreContents]]:
            async def found() -> StoreContents:
                whole = await find()

                async def delete() -> None:
                    await whole.delete()
                    if self.at:
                        self.at = ""
                        await self.happens()

                return StoreContents(whole.count, delete)

            return found

        return [
            (name, interrupted(find) if name == self.at else find, count)
            for name, find, count in super()._stores(*given)
        ]


def erasures(stage: ArchiveStage, *, at: str = "") -> _Interrupted:
    audit = AuditLog(EventStore(stage.client, OPS.name), "/dispatcher")
    archive = ArchiveEraser(stage.segments, stage.writer(), stage.store, audit)
    executor = ScriptedExecutor(stage.store, stage.bucket)
    found = _Interrupted(
        stage.client,
        stage.bucket,
        executor,
        UnfinishedJobs(),
        audit,
        may_act=lambda: True,
        archive=archive,
        look_s=0.02,
    )
    found.at = at
    return found


async def seeded(stage: ArchiveStage) -> dict[str, int]:
    """Store data of the tenant acme everywhere; return how much there is in each store."""
    jobs = len((await seed(stage, "acme", 60, random.Random(7))).jobs)
    await stage.publish(700)
    await stage.remember(0)
    await stage.archive_all()
    of_acme = [event.sequence for event in stage.events if event.tenant == "acme"]
    last = (await stage.stored())[-1].last
    archived = sum(sequence <= last for sequence in of_acme)
    return {"bucket": 3 * jobs, "streams": 10 * jobs, "archive": archived, "events": len(of_acme)}


async def request_erasure(stage: ArchiveStage, *, without: set[str] | None = None) -> str:
    """Request an erasure of the tenant acme, as it was written before there were some fields."""
    by = Attribution(by="ada", why="a test", request_id=new_id("req"))
    request = ErasureRequest(id=new_id("ers"), scope="tenant", tenant="acme", requested_at=datetime.now(UTC), by=by)
    subject = request_subject(request.id)
    body = request.model_dump_json(exclude=without).encode()
    await stage.store.publish(Message(subject, request.id, body), after=0, among=subject)
    return request.id


async def stored_request(stage: ArchiveStage, erasure_id: str) -> ErasureRequest:
    (stored,) = await EventStore(stage.client, ERASURES.name).load(request_subject(erasure_id))
    return ErasureRequest.model_validate_json(stored.body)


async def report_of(stage: ArchiveStage, erasing: Erasures, erasure_id: str) -> ErasureReport:
    """Carry an erasure out; return its report."""
    task, requests = asyncio.create_task(erasing.run()), EventStore(stage.client, ERASURES.name)
    try:
        async with asyncio.timeout(60):
            while await requests.load(request_subject(erasure_id)):
                assert not task.done()
                await asyncio.sleep(0.02)
    finally:
        await end(task)
    records = await AuditLog(EventStore(stage.client, OPS.name), "/test").newest_of_each(records_of(erasure_id))
    (completed,) = [record for record in records if record.verb == "completed"]
    return ErasureReport.model_validate(completed.data.details["report"])


async def assert_all_counted(stage: ArchiveStage, report: ErasureReport, there: dict[str, int]) -> None:
    assert {name: store.removed for name, store in report.stores.items()} == there
    assert {store.remaining for store in report.stores.values()} == {0}
    assert await found_in_streams(stage, "acme") == set()
    assert await found_in_bucket(stage.bucket, "acme") == []


@pytest.mark.parametrize("store", STORES)
async def test_a_process_that_dies_after_a_deletion_and_before_its_record(
    nats_server: NatsServer, s3_server: S3Server, store: str
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        there = await seeded(stage)
        assert all(there.values())
        erasure_id = await request_erasure(stage)
        died = asyncio.Event()

        async def dies() -> None:
            died.set()
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "died")

        dying = erasures(stage, at=store)
        dying.happens = dies
        task = asyncio.create_task(dying.run())
        async with asyncio.timeout(60):
            await died.wait()
        await end(task)
        recorded = await stored_request(stage, erasure_id)
        assert (recorded.removed[store], recorded.found[store]) == (0, there[store]), "not recorded as removed"
        report = await report_of(stage, erasures(stage), erasure_id)
        await assert_all_counted(stage, report, there)
        assert report.interrupted


@pytest.mark.parametrize("store", STORES)
async def test_a_dispatcher_that_has_lost_its_lease_deletes_what_another_counts(
    nats_server: NatsServer, s3_server: S3Server, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        there = await seeded(stage)
        erasure_id = await request_erasure(stage)
        reports: list[ErasureReport] = []

        async def other_one_carries_it_out() -> None:
            reports.append(await report_of(stage, erasures(stage), erasure_id))

        slow = erasures(stage, at=store)
        slow.happens = other_one_carries_it_out
        task = asyncio.create_task(slow.run())
        async with asyncio.timeout(60):
            while "an erasure is interrupted" not in caplog.text:
                await asyncio.sleep(0.02)
        await end(task)
        await assert_all_counted(stage, reports[0], there)
        records = [record async for record in slow._audit.records(subjects=records_of(erasure_id))]
        assert [record.verb for record in records] == ["requested", "completed"], "the slow one has recorded nothing"


async def test_a_request_from_before_the_field_is_carried_out(nats_server: NatsServer, s3_server: S3Server) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        there = await seeded(stage)
        erasure_id = await request_erasure(stage, without={"found", "removed", "attempts"})
        report = await report_of(stage, erasures(stage), erasure_id)
        await assert_all_counted(stage, report, there)
        assert not report.interrupted


async def test_what_an_older_dispatcher_has_counted_stays_counted(nats_server: NatsServer, s3_server: S3Server) -> None:
    async with archive_stage(nats_server, s3_server) as stage:
        there = await seeded(stage)
        erasure_id = await request_erasure(stage)
        requests, subject = EventStore(stage.client, ERASURES.name), request_subject(erasure_id)
        (stored,) = await requests.load(subject)
        older = (await stored_request(stage, erasure_id)).model_copy(update={"removed": {"bucket": 5}, "attempts": 1})
        body = older.model_dump_json(exclude={"found"}).encode()
        await requests.publish(Message(subject, new_id("evt"), body), after=stored.sequence, among=subject)
        report = await report_of(stage, erasures(stage), erasure_id)
        await assert_all_counted(stage, report, there | {"bucket": there["bucket"] + 5})
        assert report.interrupted
