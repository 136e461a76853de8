"""Upload service: create, complete, delete and expire uploads. The bytes go directly between client and bucket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.ids import is_id, new_id
from contracts.limits import UPLOAD_EXPIRES_S
from contracts.upload import Upload, UploadState, fold_stored
from kit.bucket import Bucket, ObjectMissing
from kit.bucket_inventory import sha256_of
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from services.gateway.aggregates.aggregate_events import VIEW_TIMEOUT_S, AggregateEvents
from services.gateway.aggregates.tenant_use import TenantUse
from services.gateway.aggregates.view import GatewayView
from services.gateway.fair_slots import FairSlots, hash_slots
from services.gateway.uploads.disk import Disk
from services.gateway.uploads.media_probe_process import ReadRange, range_reader
from services.gateway.uploads.origin_check import UploadOriginCheck
from services.gateway.uploads.upload_checks import (
    already_ended,
    check_declared_size,
    check_media_type,
    check_sent,
    check_stored_size,
    chosen_parts,
    existing,
    is_multipart,
    media_type,
    safe_name,
)

log = logging.getLogger(__name__)

#: Errors that do not depend on the file: the client may complete the upload again.
TEMPORARY_ERRORS: Final = frozenset(
    {ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.BUS_UNAVAILABLE, ErrorCode.EVENTS_FULL, ErrorCode.UPLOAD_BYTES_MISSING}
)

#: Errors after which the file stays as it is: those, and a request that is wrong.
_NOT_OF_THE_FILE: Final = TEMPORARY_ERRORS | {ErrorCode.INVALID_PARAMETER}
#: Errors whose cause can be that the bytes did not fit on the bucket's disk.
_FULL_DISK_ERRORS: Final = frozenset({ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.UPLOAD_BYTES_MISSING})

#: Returns what a decoder finds in an object that is read in parts, of a size in bytes.
ProbeMedia = Callable[[ReadRange, int], Awaitable[MediaFacts]]


class UploadService:
    """Operations on uploads. All are tenant-scoped."""

    def __init__(
        self,
        *,
        store: EventStore,
        bucket: Bucket,
        view: GatewayView,
        tail: EventTail,
        idempotency: Idempotency,
        probe_media: ProbeMedia,
        concurrent_checks: int,
        disk: Disk,
        use: TenantUse,
    ) -> None:
        """``probe_media`` opens a file with a decoder; at most ``concurrent_checks`` do so at a time.

        Twice as many files are read for their SHA-256. ``disk`` is the bucket's.
        """
        self._disk, self._use = disk, use
        self._bucket = bucket
        self._view = view
        self._idempotency = idempotency
        self._events = AggregateEvents[Upload](
            "upload",
            ErrorCode.UPLOAD_NOT_FOUND,
            is_valid_id=lambda text: is_id(text, "upl"),
            fold_stored=fold_stored,
            store=store,
            tail=tail,
            idempotency=idempotency,
            use=use,
            from_view=view.upload,
        )
        self.check_origin = UploadOriginCheck(view, store)
        self._probe_media = probe_media
        self._decode_slots, self._hash_slots = FairSlots(concurrent_checks), hash_slots(concurrent_checks)
        self._completing: dict[str, asyncio.Task[Upload]] = {}

    async def create(
        self,
        tenant: str,
        *,
        filename: str,
        content_type: str,
        size_bytes: int | None,
        sha256: str | None,
        multipart: bool,
        key: IdempotencyKey | None,
        metadata: Mapping[str, str] | None = None,
        from_job: str | None = None,
        upload_id: str | None = None,
        reserved_bytes: int = 0,
    ) -> Upload:
        """Store a new upload, with ``upload_id`` if it is given, and reserve its key in the bucket.

        ``size_bytes`` is None for a client that cannot say it: it is checked at completion. ``reserved_bytes`` is what
        a client may send then that gets a URL: it counts until the upload ends.

        Raises:
            SaccadeError: UNSUPPORTED_MEDIA_TYPE, UPLOAD_EMPTY, UPLOAD_TOO_LARGE, STORAGE_FULL,
                QUOTA_EXCEEDED, RATE_LIMITED; as the check of origins.
        """
        await self.check_origin(tenant, metadata or {}, from_job)
        content_type = media_type(content_type)
        if size_bytes is not None:
            check_declared_size(size_bytes)
        self._disk.require_room(declared_bytes := size_bytes or 0)
        upload_id = upload_id or new_id("upl")
        if known_id := await self._idempotency.recall(key) if key else None:
            if upload := await self._events.load(tenant, known_id):
                return upload
            upload_id = known_id
        self._use.require_upload(tenant, declared_bytes or reserved_bytes)
        self._use.count_event(tenant)
        if key and known_id is None:
            upload_id = await self._idempotency.claim(key, upload_id)
        bucket_key = self._bucket.key("uploads", tenant, upload_id, safe_name(filename))
        multipart_id = None
        if is_multipart(declared_bytes, requested=multipart):
            multipart_id = await self._bucket.start_multipart(bucket_key, content_type)
        created = UploadCreated(
            key=bucket_key,
            filename=filename,
            content_type=content_type,
            size_bytes=declared_bytes,
            reserved_bytes=0 if declared_bytes else reserved_bytes,
            sha256=sha256,
            multipart_id=multipart_id,
            metadata=dict(metadata or {}),
            from_job=from_job,
        )
        try:
            await self._events.append_once(tenant, upload_id, created, after=0)
        except Conflict:
            # A concurrent request with the same Idempotency-Key was first; its event counts.
            if multipart_id:
                await self._bucket.abort_multipart(bucket_key, multipart_id)
        return await self.get(tenant, upload_id, fresh=True)

    async def get(self, tenant: str, upload_id: str, *, fresh: bool = False) -> Upload:
        """Return an upload from the view if it is there; with ``fresh``, always from its events.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, also for deleted uploads and those of other tenants.
        """
        upload = None
        if is_id(upload_id, "upl"):
            upload = None if fresh else self._view.upload(upload_id)
            if upload is None or upload.tenant != tenant:
                upload = await self._events.load(tenant, upload_id)
        return existing(upload)

    async def as_of(self, tenant: str, upload_id: str, sequence: int) -> Upload | None:
        """Return an upload, also a deleted one, with every event that was stored before ``sequence``.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        viewed = self._view.upload(upload_id) if self._events.tail.last >= sequence else None
        return viewed or await self._events.load(tenant, upload_id)

    async def get_open(self, tenant: str, upload_id: str) -> Upload:
        """Return an upload that still accepts bytes.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, UPLOAD_ALREADY_ENDED.
        """
        upload = await self.get(tenant, upload_id)
        if upload.state is not UploadState.CREATED:
            raise SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, f"The upload is {upload.state} already.")
        check_sent(upload)
        return upload

    async def stored_parts(self, upload: Upload) -> list[dict[str, Any]]:
        """Return the parts of an open multipart upload that are in the bucket."""
        multipart_id = upload.created.multipart_id
        if multipart_id is None or upload.state is not UploadState.CREATED:
            return []
        with suppress(ObjectMissing):
            return await self._bucket.list_parts(upload.created.key, multipart_id)
        return []

    async def complete(self, tenant: str, upload_id: str, parts: list[tuple[int, str]] | None = None) -> Upload:
        """Check the bytes and make the upload usable. Idempotent; concurrent requests share one check.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, UPLOAD_ALREADY_ENDED, UPLOAD_BYTES_MISSING, STORAGE_FULL, or the reason of
                the rejection; INVALID_PARAMETER, for ``parts`` that are not those in the bucket.
        """
        upload = await self.get(tenant, upload_id, fresh=True)
        if upload.state is UploadState.COMPLETED:
            return upload
        if upload.state is UploadState.FAILED:
            raise already_ended(upload)
        check_sent(upload)
        task = self._completing.get(upload_id)
        if task is None:
            task = asyncio.ensure_future(self._check_and_store(upload, parts))
            self._completing[upload_id] = task
            task.add_done_callback(lambda _: self._completing.pop(upload_id, None))
        # If the client disconnects, the check continues, and the next request gets its result.
        return await asyncio.shield(task)

    async def delete(self, tenant: str, upload_id: str) -> None:
        """Delete an upload and its bytes.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, UPLOAD_IN_USE.
        """
        while True:
            upload = await self.get(tenant, upload_id, fresh=True)
            if users := self._view.unfinished_jobs_of(upload_id):
                raise SaccadeError(ErrorCode.UPLOAD_IN_USE, f"{users[0]} uses this upload.", jobs=users[:10])
            if upload.state is UploadState.FAILED:
                return await self._delete_unused(upload, upload.sequence)
            with suppress(Conflict):
                data = UploadFailed(reason="deleted")
                ended_at = await self._events.append_once(tenant, upload_id, data, after=upload.sequence)
                return await self._delete_unused(upload, ended_at)

    async def expire(self, now: datetime) -> int:
        """Fail the uploads that were not completed in time, delete their bytes, and return their number."""
        count = 0
        for upload in self._view.open_uploads_created_before(now - timedelta(seconds=UPLOAD_EXPIRES_S)):
            count += upload.id not in self._completing and await self.expire_one(upload)
        return count

    async def expire_one(self, upload: Upload) -> bool:
        """Fail an upload and delete its bytes; return False if it has changed."""
        with suppress(Conflict):
            expired = UploadFailed(reason="expired")
            ended_at = await self._events.append(upload.tenant, upload.id, expired, after=upload.sequence)
            await self._delete_unused(upload, ended_at)
            return True
        return False

    async def _check_and_store(self, upload: Upload, parts: list[tuple[int, str]] | None) -> Upload:
        try:
            await self._join_parts(upload, parts)
            completed = await self._check_bytes(upload)
        except SaccadeError as error:
            if error.code not in _NOT_OF_THE_FILE:
                await self.reject(upload, error)
            if error.code in _FULL_DISK_ERRORS:
                # The bucket tells the client only of an internal error, and deletes what did not fit.
                self._disk.require_room(upload.created.size_bytes)
            raise
        found = await self.store_completed(upload, completed)
        if found.state is not UploadState.COMPLETED:
            raise already_ended(found)
        return found

    async def create_fetched(self, tenant: str, upload_id: str, wanted: UploadCreated) -> Upload:
        """Store the upload of a file that the server fetches, unless it is stored already, and return it.

        ``wanted`` has no key yet.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, if it was deleted meanwhile; BUS_UNAVAILABLE.
        """
        key = self._bucket.key("uploads", tenant, upload_id, safe_name(wanted.filename))
        created = wanted.model_copy(update={"key": key})
        with suppress(Conflict):
            await self._events.append_once(tenant, upload_id, created, after=0)
        return await self.get(tenant, upload_id, fresh=True)

    async def find(self, tenant: str, upload_id: str) -> Upload | None:
        """Return an upload as its events have it, also a deleted one; None if there is none.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        return await self._events.load(tenant, upload_id)

    async def probe(self, upload: Upload) -> MediaFacts:
        """Open the stored bytes of an upload with the decoder.

        Raises:
            SaccadeError: MEDIA_UNDECODABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, or an error of the ZIP.
        """
        async with self._decode_slots.slot(upload.tenant):
            return await self._open_media(upload)

    async def store_completed(self, upload: Upload, completed: UploadCompleted) -> Upload:
        """Complete an upload, unless it has ended, and return it.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, if it was deleted meanwhile; BUS_UNAVAILABLE.
        """
        with suppress(Conflict):
            await self._events.append_once(upload.tenant, upload.id, completed, after=upload.sequence)
        return await self.get(upload.tenant, upload.id, fresh=True)

    async def abort_parts(self, upload: Upload, multipart_id: str | None) -> None:
        """Delete the parts that an interrupted fetch has left.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        if multipart_id:
            await self._bucket.abort_multipart(upload.created.key, multipart_id)

    async def _join_parts(self, upload: Upload, requested: list[tuple[int, str]] | None) -> None:
        """Join the parts of a multipart upload into one object, unless that is done already."""
        multipart_id = upload.created.multipart_id
        if multipart_id is None or await self._size(upload) is not None:
            return
        try:
            arrived = await self._bucket.list_parts(upload.created.key, multipart_id)
            total = sum(part["size_bytes"] for part in arrived)
            if len(arrived) < upload.part_count and total < upload.created.size_bytes:
                message = f"{len(arrived)} of {upload.part_count} parts have arrived."
                raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING, message, arrived_parts=len(arrived))
            check_stored_size(upload, total)
            parts = chosen_parts(arrived, requested)
            await self._bucket.finish_multipart(upload.created.key, multipart_id, parts)
        except ObjectMissing as error:
            if await self._size(upload) is None:
                raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING) from error

    async def _check_bytes(self, upload: Upload) -> UploadCompleted:
        """Compare size, SHA-256 and media type with the declared ones; bytes beyond the reserved with the quotas."""
        size = await self._size(upload)
        if size is None:
            raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING)
        check_stored_size(upload, size)
        if not upload.created.size_bytes and (beyond_bytes := size - upload.created.reserved_bytes) > 0:
            self._use.require_upload(upload.tenant, beyond_bytes)
        async with self._hash_slots.slot(upload.tenant):
            try:
                sha256 = await sha256_of(self._bucket, upload.created.key)
            except ObjectMissing as error:
                raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING) from error
        if upload.created.sha256 and sha256 != upload.created.sha256:
            message = f"The file has SHA-256 {sha256}, {upload.created.sha256} was declared."
            raise SaccadeError(ErrorCode.UPLOAD_CHECKSUM_MISMATCH, message)
        media = await self.probe(upload)
        check_media_type(upload, media)
        return UploadCompleted(size_bytes=size, sha256=sha256, media=media)

    async def _open_media(self, upload: Upload) -> MediaFacts:
        size = await self._size(upload)
        if size is None:
            raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING)
        return await self._probe_media(range_reader(self._bucket, upload.created.key), size)

    async def reject(self, upload: Upload, error: SaccadeError) -> None:
        """Fail an upload with an error and delete its bytes; do nothing if it has ended.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        log.info("upload rejected", extra={"upload_id": upload.id, "code": error.code})
        try:
            failed = UploadFailed(reason="refused", error=error.body())
            await self._events.append_once(upload.tenant, upload.id, failed, after=upload.sequence)
        except Conflict:
            return
        await self._delete_bytes(upload)

    async def _delete_unused(self, upload: Upload, ended_at: int) -> None:
        """Delete the bytes of an ended upload, unless a job uses them that was stored before event ``ended_at``.

        What stays is deleted by the dispatcher's sweep.
        """
        if await self._events.tail.wait_for(ended_at, VIEW_TIMEOUT_S) and not self._view.unfinished_jobs_of(upload.id):
            await self._delete_bytes(upload)

    async def _delete_bytes(self, upload: Upload) -> None:
        """Delete the bytes; if the bucket is unavailable, its lifecycle rules delete them later."""
        try:
            if upload.created.multipart_id:
                await self._bucket.abort_multipart(upload.created.key, upload.created.multipart_id)
            await self._bucket.delete(upload.created.key)
        except SaccadeError as error:
            log.warning("bytes of %s are still in the bucket: %s", upload.id, error)

    async def _size(self, upload: Upload) -> int | None:
        with suppress(ObjectMissing):
            return await self._bucket.size(upload.created.key)
        return None
