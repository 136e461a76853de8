"""Carries out erasures while its dispatcher leads; one that was interrupted is repeated until nothing remains.

Events are deleted last: they tell which jobs and files there are. The audit log has the intent before anything is
deleted and the outcome, with the report, after it; then the event ``erasure.completed`` has views drop their rows, and
the request, which names what was erased, is deleted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client

from contracts.audit import SYSTEM, Act, AuditRecord
from contracts.erasure import (
    EVERY_REQUEST,
    NOUN,
    REMAINS,
    ErasureReport,
    ErasureRequest,
    StoreReport,
    records_of,
    request_subject,
    sha256_of,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import encode
from contracts.events.erasure import ErasureCompleted
from contracts.job import Job
from contracts.streams import ERASURES, aggregate
from kit.bucket import Bucket
from kit.bus.audit_log import AuditLog
from kit.bus.connection import epoch_of
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from kit.snapshot_store import SnapshotStore
from services.dispatcher.erasure.archive_eraser import ArchiveEraser
from services.dispatcher.erasure.bucket_eraser import BucketEraser
from services.dispatcher.erasure.coverage import Covered, events_of_stages, folders, other_messages, own_events
from services.dispatcher.erasure.inventory import Inventory
from services.dispatcher.erasure.progress import ErasureProgress, StoreContents
from services.dispatcher.erasure.stream_eraser import StreamEraser
from services.dispatcher.executors.executor import Executor
from services.dispatcher.jobs.job_repository import SOURCE, NotLeading
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.snapshots.snapshots import Snapshots

log = logging.getLogger(__name__)

_LOOK_S: Final = 2.0
_ERROR_RETRY_S: Final = 10.0
#: Looks for what was stored while it was being deleted, by a worker that is ending or a writer of the archive.
_ROUNDS: Final = 4
_ROUND_PAUSE_S: Final = 0.5
_STREAMS, _EVENTS, _BUCKET, _ARCHIVE, _CACHES = "streams", "events", "bucket", "archive", "workers' caches"


class Erasures:
    """Erasures that were requested and have not ended."""

    def __init__(
        self,
        client: Client,
        bucket: Bucket,
        executor: Executor,
        jobs: UnfinishedJobs,
        audit: AuditLog,
        *,
        may_act: Callable[[], bool],
        archive: ArchiveEraser | None = None,
        snapshots: Snapshots | None = None,
        view_snapshots: SnapshotStore | None = None,
        look_s: float = _LOOK_S,
    ) -> None:
        """Erase only while ``may_act()`` is true, and nothing that one of the unfinished ``jobs`` uses.

        ``view_snapshots`` are those of the gateways, which use none from before an erasure and delete it themselves.
        """
        self._requests = EventStore(client, ERASURES.name)
        self._events = EventStore(client)
        self._streams = StreamEraser(client)
        self._bucket = bucket
        self._executor = executor
        self._jobs = jobs
        self._audit = audit
        self._may_act = may_act
        self._archive = archive
        self._snapshots, self._view_snapshots = snapshots, view_snapshots
        self._look_s = look_s

    async def run(self) -> None:
        """Carry out what is requested until cancelled."""
        while True:
            wait_s = self._look_s
            try:
                for stored in await self._requests.load(EVERY_REQUEST):
                    if not await self._attempt(stored):
                        wait_s = max(self._look_s, _ERROR_RETRY_S)
            except SaccadeError as error:
                log.warning("requests for erasures cannot be read at the moment: %s", error)
                wait_s = max(self._look_s, _ERROR_RETRY_S)
            await asyncio.sleep(wait_s)

    async def _attempt(self, stored: StoredEvent) -> bool:
        """Carry out one request; return whether nothing prevented it. The others do not wait for one that fails."""
        try:
            await self._carry_out(ErasureRequest.model_validate_json(stored.body), stored.sequence)
        except (SaccadeError, NotLeading, Conflict) as error:
            log.warning("an erasure is interrupted and will be repeated: %s", error)
        except ValueError:
            log.exception("a request for an erasure cannot be read")
        else:
            return True
        return False

    async def _carry_out(self, request: ErasureRequest, sequence: int) -> None:
        """Carry out one request, unless a job still runs.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE; INTERNAL if something remains.
        """
        records = {record.verb: record for record in await self._audit.newest_of_each(records_of(request.id))}
        if self._is_used(request) and "completed" not in records:
            return
        act = Act(SYSTEM, NOUN, request.id, request.details)
        intent = records.get("requested") or await self._audit.intent(act, "requested", request.by)
        # Until the event is stored by which this process forgets what was erased.
        async with self._snapshots.paused() if self._snapshots else nullcontext():
            if "completed" not in records:
                inventory = Inventory(request)
                await self._complete(request, sequence, intent, inventory)
            elif self._snapshots:
                # An attempt interrupted before its event may have let a snapshot be written that holds erased data.
                await self._snapshots.erase()
            await self._announce(request)
        await self._delete_request(request)
        log.info("erasure %s of a %s is completed", request.id, request.scope)

    def _is_used(self, request: ErasureRequest) -> bool:
        """Return whether an unfinished job would write what is erased."""
        ids = {*request.job_ids, request.subject_id}
        return any(
            job.tenant == request.tenant and (request.scope == "tenant" or job.id in ids or _uses(job, request))
            for job in self._jobs
        )

    async def _complete(
        self, request: ErasureRequest, sequence: int, intent: AuditRecord, inventory: Inventory
    ) -> None:
        """Erase everything and record it.

        Raises:
            NotLeading, SaccadeError: as ``_carry_out``.
        """
        async with self._archive.writer.paused() if self._archive else nullcontext():
            await self._complete_alone(request, sequence, intent, inventory)

    async def _complete_alone(
        self, request: ErasureRequest, sequence: int, intent: AuditRecord, inventory: Inventory
    ) -> None:
        progress = ErasureProgress(self._requests, request, sequence)
        # The bucket may still list what an earlier attempt has deleted.
        objects = BucketEraser(self._bucket, lists_deleted=request.attempts > 0)
        await inventory.read(self._streams)
        if self._archive is not None:
            await self._archive.read(inventory)
        remaining: dict[str, int] = {}
        until, until_time = 0, datetime.now(UTC)
        for round_number in range(_ROUNDS):
            if round_number:
                await asyncio.sleep(_ROUND_PAUSE_S)
            for store, find, _ in self._stores(inventory, objects):
                self._require_leader()
                found = await find()
                await progress.found(store, found.count)
                await found.delete()
                await progress.removed(store)
            until_time = datetime.now(UTC)
            _, until = await epoch_of(self._events.client, self._events.stream)
            remaining = {store: await count() for store, _, count in self._stores(inventory, objects)}
            if not any(remaining.values()):
                break
        if left := {store: count for store, count in remaining.items() if count}:
            raise SaccadeError(ErrorCode.INTERNAL, f"Erasure {request.id}: there is still something in {left}.")
        await objects.abort(inventory.multiparts)
        remains = dict(REMAINS)
        if caches := await self._clear_caches(inventory.job_ids):
            remains[_CACHES] = caches
        if request.scope == "upload":
            remains["groups"] = (
                "The end of a group keeps the ids of its uploads: without it the group would be open again."
            )
        report = ErasureReport(
            stores={
                store: StoreReport(removed=progress.request.removed.get(store, 0), remaining=count)
                for store, count in remaining.items()
            },
            remains=remains,
            interrupted=progress.request.attempts > 1,
        )
        hashes = sorted(sha256_of(job_id) for job_id in inventory.job_ids) if request.scope != "tenant" else []
        details = {**request.details, "jobs_sha256": hashes, "report": report.model_dump(mode="json")}
        # What is stored after the last look is new: views keep it.
        details |= {"until_sequence": until, "until_time": until_time.isoformat()}
        await self._audit.outcome(intent, "completed", details)

    def _stores(
        self, inventory: Inventory, objects: BucketEraser
    ) -> list[tuple[str, Callable[[], Awaitable[StoreContents]], Callable[[], Awaitable[int]]]]:
        """Return each store with what finds what to delete, and with its count; the events come last."""
        request, streams = inventory.request, self._streams
        others = other_messages(request, inventory.job_ids)
        events = own_events(request) + events_of_stages(request, inventory.job_ids)
        places = folders(request, inventory.job_ids)

        async def find_objects() -> StoreContents:
            if self._snapshots:
                await self._snapshots.erase()
            if self._view_snapshots:
                await self._view_snapshots.delete_all()
            return await objects.found(places)

        async def count_objects() -> int:
            return await objects.count(places) + (await self._snapshots.count() if self._snapshots else 0)

        found: list[tuple[str, Callable[[], Awaitable[StoreContents]], Callable[[], Awaitable[int]]]] = [
            (_BUCKET, find_objects, count_objects),
            (_STREAMS, lambda: streams.found(others), lambda: streams.count(others)),
        ]
        if (archive := self._archive) is not None:
            found.append((_ARCHIVE, lambda: archive.found(inventory), lambda: archive.count(inventory)))
        return [*found, (_EVENTS, lambda: streams.found(events), lambda: streams.count(events))]

    async def _clear_caches(self, job_ids: set[str]) -> str:
        """Remove jobs from the workers' caches; return why that was not possible, or nothing."""
        for job_id in sorted(job_ids):
            try:
                await self._executor.clear_cache(job_id)
            except SaccadeError as error:
                return f"Not cleared ({error.message}); workers that start remove what was not used for some days."
        return ""

    async def _announce(self, request: ErasureRequest) -> None:
        """Publish that it is completed, once.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE.
        """
        self._require_leader()
        records = await self._audit.newest_of_each(records_of(request.id))
        outcome = next(record for record in records if record.verb == "completed")
        data = ErasureCompleted(
            scope=request.scope,
            tenant_sha256=sha256_of(request.tenant),
            until_sequence=outcome.data.details["until_sequence"],
            until_time=outcome.data.details["until_time"],
            jobs_sha256=outcome.data.details.get("jobs_sha256", []),
            upload_sha256=sha256_of(request.subject_id or "") if request.scope == "upload" else None,
        )
        message = encode(data, tenant=SYSTEM, subject_id=request.id, source=SOURCE, event_id=f"{request.id}.completed")
        try:
            await self._events.publish(message, after=0, among=aggregate(SYSTEM, NOUN, request.id))
        except Conflict:
            return

    async def _delete_request(self, request: ErasureRequest) -> None:
        covered = Covered(ERASURES.name, request_subject(request.id))
        await (await self._streams.found([covered])).delete()

    def _require_leader(self) -> None:
        if not self._may_act():
            raise NotLeading


def _uses(job: Job, request: ErasureRequest) -> bool:
    return request.scope == "upload" and request.subject_id in job.submitted.used_uploads
