"""Uploads: announced, signed for, checked, given up. The bytes go between client and bucket and never pass here."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, encode
from contracts.events.base import decode_at
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated, UploadFailed
from contracts.ids import is_id, new_id
from contracts.limits import UPLOAD_EXPIRES_S
from contracts.streams import aggregate
from kit.bucket import Bucket, ObjectMissing
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from services.gateway.aggregates.view import GatewayView
from services.gateway.uploads.upload_checks import (
    Upload,
    UploadState,
    check_arrived,
    check_media,
    check_size,
    fold,
    in_parts,
    media_type,
    safe_name,
)

log = logging.getLogger(__name__)

SOURCE: Final = "/gateway"
#: Refusals that say nothing about the file: the client may complete again.
_NOT_ABOUT_THE_FILE: Final = frozenset({ErrorCode.STORAGE_UNAVAILABLE, ErrorCode.BUS_UNAVAILABLE})
#: How long an answer waits for the view to have what was just written.
SEEN_S: Final = 2.0

#: Tells what is in the object behind a presigned URL.
CheckMedia = Callable[[str], Awaitable[MediaFacts]]


class UploadService:
    """Every upload of every tenant."""

    def __init__(
        self,
        *,
        store: EventStore,
        bucket: Bucket,
        view: GatewayView,
        tail: EventTail,
        idempotency: Idempotency,
        check: CheckMedia,
        checks_at_once: int,
    ) -> None:
        """Use bus, bucket and view; ``check`` opens a file with a decoder."""
        self._store = store
        self._bucket = bucket
        self._view = view
        self._tail = tail
        self._idempotency = idempotency
        self._check = check
        self._checks = asyncio.Semaphore(checks_at_once)
        self._completing: dict[str, asyncio.Task[Upload]] = {}

    async def create(
        self,
        tenant: str,
        *,
        filename: str,
        content_type: str,
        size_bytes: int,
        sha256: str | None,
        multipart: bool,
        key: IdempotencyKey | None,
    ) -> Upload:
        """Announce a file and give it a place.

        Raises:
            SaccadeError: UNSUPPORTED_MEDIA_TYPE, UPLOAD_EMPTY, UPLOAD_TOO_LARGE, IDEMPOTENCY_KEY_REUSED.
        """
        content_type = media_type(content_type)
        check_size(size_bytes)
        upload_id = new_id("upl")
        if key and (made := await self._idempotency.recall(key)):
            if upload := await self._load(tenant, made):
                return upload
            upload_id = made
        elif key:
            upload_id = await self._idempotency.claim(key, upload_id)
        place = self._bucket.key("uploads", tenant, upload_id, safe_name(filename))
        multipart_id = None
        if in_parts(size_bytes, asked=multipart):
            multipart_id = await self._bucket.start_multipart(place, content_type)
        data = UploadCreated(
            key=place,
            filename=filename,
            content_type=content_type,
            size_bytes=size_bytes,
            sha256=sha256,
            multipart_id=multipart_id,
        )
        try:
            await self._publish(tenant, upload_id, data, after=0)
        except Conflict:
            # The same key, at the same time: the other request's event counts.
            if multipart_id:
                await self._bucket.abort_multipart(place, multipart_id)
        return await self.get(tenant, upload_id, fresh=True)

    async def get(self, tenant: str, upload_id: str, *, fresh: bool = False) -> Upload:
        """Give an upload, from the view where it knows it; ``fresh`` reads its events.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, for other tenants' uploads and deleted ones too.
        """
        upload = None
        if is_id(upload_id, "upl"):
            upload = None if fresh else self._view.upload(upload_id)
            if upload is None or upload.tenant != tenant:
                upload = await self._load(tenant, upload_id)
        if upload is None or upload.reason == "deleted":
            raise SaccadeError(ErrorCode.UPLOAD_NOT_FOUND)
        return upload

    async def open(self, tenant: str, upload_id: str) -> Upload:
        """Give an upload that still takes bytes.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, UPLOAD_ALREADY_ENDED.
        """
        upload = await self.get(tenant, upload_id)
        if upload.state is not UploadState.CREATED:
            raise SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, f"The upload is {upload.state} already.")
        return upload

    async def arrived_parts(self, upload: Upload) -> list[dict[str, Any]]:
        """List the parts of a multipart upload that have arrived."""
        multipart_id = upload.created.multipart_id
        if multipart_id is None or upload.state is not UploadState.CREATED:
            return []
        try:
            return await self._bucket.list_parts(upload.created.key, multipart_id)
        except ObjectMissing:
            return []

    async def complete(self, tenant: str, upload_id: str, parts: list[tuple[int, str]] | None = None) -> Upload:
        """Check the bytes and make the upload usable. May be repeated; requests at the same time share one check.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, UPLOAD_ALREADY_ENDED, UPLOAD_BYTES_MISSING, or why the file was refused.
        """
        upload = await self.get(tenant, upload_id, fresh=True)
        if upload.state is UploadState.COMPLETED:
            return upload
        if upload.state is UploadState.FAILED:
            raise _ended(upload)
        task = self._completing.get(upload_id)
        if task is None:
            task = asyncio.ensure_future(self._complete(upload, parts))
            self._completing[upload_id] = task
            task.add_done_callback(lambda _: self._completing.pop(upload_id, None))
        # Who asked may go away; the check goes on, and the next request finds it done.
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
                break
            try:
                await self._publish(tenant, upload_id, UploadFailed(reason="deleted"), after=upload.sequence)
                break
            except Conflict:
                continue
        await self._throw_away(upload)

    async def give_up_expired(self, now: datetime) -> int:
        """End uploads that were never completed, throw their bytes away and count them."""
        count = 0
        for upload in self._view.uploads_created_before(now - timedelta(seconds=UPLOAD_EXPIRES_S)):
            if upload.id in self._completing:
                continue
            try:
                await self._publish(
                    upload.tenant, upload.id, UploadFailed(reason="expired"), after=upload.sequence
                )  # fmt: skip
            except Conflict:
                continue
            await self._throw_away(upload)
            count += 1
        return count

    async def _complete(self, upload: Upload, parts: list[tuple[int, str]] | None) -> Upload:
        try:
            await self._join_parts(upload, parts)
            async with self._checks:
                data = await self._examine(upload)
        except SaccadeError as error:
            if error.code not in _NOT_ABOUT_THE_FILE and error.code is not ErrorCode.UPLOAD_BYTES_MISSING:
                await self._refuse(upload, error)
            raise
        try:
            await self._publish(upload.tenant, upload.id, data, after=upload.sequence)
        except Conflict:
            found = await self.get(upload.tenant, upload.id, fresh=True)
            if found.state is not UploadState.COMPLETED:
                raise _ended(found) from None
            return found
        return await self.get(upload.tenant, upload.id, fresh=True)

    async def _join_parts(self, upload: Upload, given: list[tuple[int, str]] | None) -> None:
        """Make one object of a multipart upload's parts, unless somebody has."""
        multipart_id = upload.created.multipart_id
        if multipart_id is None or await self._size(upload) is not None:
            return
        try:
            arrived = await self._bucket.list_parts(upload.created.key, multipart_id)
            total = sum(part["size_bytes"] for part in arrived)
            if len(arrived) < upload.part_count and total < upload.created.size_bytes:
                message = f"{len(arrived)} of {upload.part_count} parts have arrived."
                raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING, message, arrived_parts=len(arrived))
            check_arrived(upload, total)
            parts = given or [(part["part_number"], part["etag"]) for part in arrived]
            await self._bucket.finish_multipart(upload.created.key, multipart_id, sorted(parts))
        except ObjectMissing as error:
            if await self._size(upload) is None:
                raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING) from error

    async def _examine(self, upload: Upload) -> UploadCompleted:
        """Compare size, digest and media with what was declared."""
        size = await self._size(upload)
        if size is None:
            raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING)
        check_arrived(upload, size)
        digest = hashlib.sha256()
        try:
            async for chunk in self._bucket.read(upload.created.key):
                await asyncio.to_thread(digest.update, chunk)
        except ObjectMissing as error:
            raise SaccadeError(ErrorCode.UPLOAD_BYTES_MISSING) from error
        found = digest.hexdigest()
        if upload.created.sha256 and found != upload.created.sha256:
            message = f"The file has SHA-256 {found}, {upload.created.sha256} was declared."
            raise SaccadeError(ErrorCode.UPLOAD_CHECKSUM_MISMATCH, message)
        media = await self._check(await self._bucket.presign_get(upload.created.key, inside=True))
        check_media(upload, media)
        return UploadCompleted(size_bytes=size, sha256=found, media=media)

    async def _refuse(self, upload: Upload, error: SaccadeError) -> None:
        """Say why, for ever, and throw the bytes away."""
        log.info("upload refused", extra={"upload_id": upload.id, "code": error.code})
        try:
            data = UploadFailed(reason="refused", error=error.body())
            await self._publish(upload.tenant, upload.id, data, after=upload.sequence)
        except Conflict:
            return
        await self._throw_away(upload)

    async def _throw_away(self, upload: Upload) -> None:
        """Delete the bytes; what the bucket does not take now, its own rules clean up."""
        try:
            if upload.created.multipart_id:
                await self._bucket.abort_multipart(upload.created.key, upload.created.multipart_id)
            await self._bucket.delete(upload.created.key)
        except SaccadeError as error:
            log.warning("bytes of %s are still in the bucket: %s", upload.id, error)

    async def _size(self, upload: Upload) -> int | None:
        try:
            return await self._bucket.size(upload.created.key)
        except ObjectMissing:
            return None

    async def _load(self, tenant: str, upload_id: str) -> Upload | None:
        upload: Upload | None = None
        for stored in await self._store.load(aggregate(tenant, "upload", upload_id)):
            upload = fold(upload, decode_at(stored.subject, stored.body), stored.sequence)
        return upload

    async def _publish(self, tenant: str, upload_id: str, data: EventData, *, after: int) -> None:
        """Store an event of an upload on condition that it is the next, and wait until the view has it."""
        kind: Literal["created", "completed", "failed"] | str = data.type.partition(".")[2]
        message = encode(data, tenant=tenant, subject_id=upload_id, source=SOURCE, event_id=f"{upload_id}.{kind}")
        sequence = await self._store.publish(message, after=after, among=aggregate(tenant, "upload", upload_id))
        await self._tail.wait_for(sequence, SEEN_S)


def _ended(upload: Upload) -> SaccadeError:
    """Say why an upload cannot be completed; a refusal is repeated as it was."""
    if upload.error:
        return SaccadeError(upload.error.code, upload.error.message, hint=upload.error.hint)
    return SaccadeError(ErrorCode.UPLOAD_ALREADY_ENDED, f"The upload was {upload.reason or upload.state}.")


def utc_now() -> datetime:
    """Give the time."""
    return datetime.now(UTC)
