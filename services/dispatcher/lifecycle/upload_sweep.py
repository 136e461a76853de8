"""Removes from the bucket what no upload accounts for: late bytes of ended uploads, orphans, forgotten parts.

A presigned URL outlives what it was made for by up to its validity: a client can still send bytes after its upload was
deleted, has expired or was refused, and other bytes after it was completed. Parts stay when a process dies.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

from contracts.errors import UNREADABLE_EVENTS, SaccadeError
from contracts.ids import is_id, time_of
from contracts.limits import UPLOAD_EXPIRES_S
from contracts.upload import Upload, UploadState
from kit.bucket import Bucket, ObjectMissing
from kit.bucket_inventory import OpenMultipart, StoredObject, list_multiparts, list_objects, sha256_of
from kit.s3_client import StorageRefused
from services.dispatcher.jobs.job_repository import NotLeading
from services.dispatcher.jobs.stored_uploads import StoredUploads
from services.dispatcher.lifecycle.used_uploads import UsedUploads
from services.dispatcher.settings import RetentionSettings

log = logging.getLogger(__name__)

_ERROR_RETRY_S: Final = 60.0
#: Clocks of the bucket and of the gateway may differ by this.
_BUCKET_CLOCK_SKEW: Final = timedelta(seconds=5)
#: Most that the clock of the gateway that made an id is ahead of the server that stores its events.
_CLOCK_SKEW: Final = timedelta(minutes=10)
#: A deletion that failed is found after this time at the latest.
_RECHECK: Final = timedelta(days=1)
#: An object may show a time earlier than its last change by this: a multipart upload shows its beginning.
_MODIFIED_LATER: Final = timedelta(seconds=UPLOAD_EXPIRES_S) + 6 * _CLOCK_SKEW
_NEVER: Final = datetime.min.replace(tzinfo=UTC)


class Leadership(Protocol):
    """Clock and lease of a dispatcher."""

    @property
    def clock(self) -> Callable[[], datetime]:
        """Return the clock."""

    def require_leader(self) -> None:
        """Check that this dispatcher leads.

        Raises:
            NotLeading: it does not.
        """


class UploadSweep:
    """Sweeps of the uploads' part of the bucket, while its dispatcher leads."""

    def __init__(
        self,
        uploads: StoredUploads,
        bucket: Bucket,
        settings: RetentionSettings,
        leadership: Leadership,
        used: UsedUploads,
    ) -> None:
        """Sweep ``bucket`` as far as ``leadership`` lasts, without the files that jobs may need."""
        self._uploads, self._used = uploads, used
        self._bucket = bucket
        self._settings = settings
        self._require_leader = leadership.require_leader
        self._clock = leadership.clock
        #: Objects that were modified before this are right, but for those whose keys are in ``_undecided``: that is not
        #: known yet, or the bucket refused to delete them. Right ones are looked at again when they change, and once a
        #: day. Nothing is kept of them: there may be millions.
        self._settled_before = _NEVER
        self._undecided: set[str] = set()
        self._recheck_at = self._clock() + _RECHECK
        #: Objects whose bytes were compared, and that are not settled yet.
        self._compared: dict[str, StoredObject] = {}
        #: Whether the last list of multipart uploads succeeded.
        self._listed_multiparts = True
        self.removed = 0

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            wait_s = self._settings.sweep_s
            try:
                await self.sweep()
            except (SaccadeError, NotLeading) as error:
                log.warning("the sweep of uploads failed and is repeated: %s", error)
                wait_s = max(wait_s, _ERROR_RETRY_S)
            await asyncio.sleep(wait_s)

    async def sweep(self) -> None:
        """Sweep once.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        folder, began = f"{self._bucket.key('uploads')}/", self._clock()
        if began > self._recheck_at:
            self._settled_before, self._recheck_at = _NEVER, began + _RECHECK
        settled_before = began - _MODIFIED_LATER
        undecided: set[str] = set()
        compared: dict[str, StoredObject] = {}
        async for stored in list_objects(self._bucket, folder):
            key = stored.key
            if stored.modified_at < self._settled_before and key not in self._undecided:
                continue
            why = await self._unless_unreadable(key, self.why_remove(stored, folder))
            if why:
                if not await self._remove(key, why, partial(self._bucket.delete, key)):
                    undecided.add(key)
            elif why is None:
                if stored.modified_at < settled_before:
                    undecided.add(key)
                if key in self._compared:
                    compared[key] = self._compared[key]
        self._settled_before, self._undecided, self._compared = settled_before, undecided, compared
        await self._sweep_multiparts(folder)

    async def _unless_unreadable(self, key: str, why: Awaitable[str | None]) -> str | None:
        """Return why an object has to go; None where its upload's events cannot be read: those after it are looked at.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        try:
            return await why
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            log.warning("%s stays: %s", key, error)
            return None

    async def why_remove(self, stored: StoredObject, folder: str) -> str | None:
        """Return why an object has to go; an empty text if it is right for good, None if that is not known yet."""
        upload_id, upload = await self._upload_of(stored.key, folder)
        if upload_id is None:
            return None  # not of ours
        if upload is None:
            return await self._why_orphan(stored, upload_id)
        if upload.state is UploadState.FAILED:
            # A job that was submitted just before the deletion keeps its input.
            return None if upload.completed and await self._used.is_used(upload) else f"its upload was {upload.reason}"
        if upload.created.key != stored.key:
            return "its upload has another key"
        if upload.completed is None or upload.completed_at is None:
            return None
        if stored.size_bytes != upload.completed.size_bytes:
            return await self._why_other_size(stored.key, upload.completed.size_bytes)
        if stored.modified_at > upload.completed_at + _BUCKET_CLOCK_SKEW and self._compared.get(stored.key) != stored:
            if await self._digest(stored.key) not in (None, upload.completed.sha256):
                return "it was replaced after it was checked"
            self._compared[stored.key] = stored
        return "" if self._is_older(upload.completed_at, UPLOAD_EXPIRES_S / 3600) else None

    async def _why_other_size(self, key: str, size_bytes: int) -> str | None:
        """Return why an object goes that had another size than its upload when it was listed.

        The upload may have been completed since, with bytes that were sent since.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        try:
            found = await self._bucket.size(key)
        except ObjectMissing:
            return None
        return None if found == size_bytes else "its size is not the one that was checked"

    async def _sweep_multiparts(self, folder: str) -> None:
        """Abort the multipart uploads of ended uploads, and those that are older than any upload may be."""
        try:
            found = [multipart async for multipart in list_multiparts(self._bucket, self._bucket.key(""))]
        except SaccadeError as error:
            if self._listed_multiparts:
                log.warning("multipart uploads cannot be listed; the bucket's lifecycle rule removes them: %s", error)
            self._listed_multiparts = False
            return
        self._listed_multiparts = True
        for multipart in found:
            if why := await self._unless_unreadable(multipart.key, self._why_abort(multipart, folder)):
                abort = partial(self._bucket.abort_multipart, multipart.key, multipart.id)
                await self._remove(multipart.key, why, abort)

    async def _why_abort(self, multipart: OpenMultipart, folder: str) -> str | None:
        _, upload = await self._upload_of(multipart.key, folder)
        if upload and upload.state is not UploadState.CREATED:
            return f"parts of an upload that is {upload.state}"
        if self._is_older(multipart.started_at, self._settings.orphan_hours):
            return "parts that nobody completed"
        return None

    async def _why_orphan(self, stored: StoredObject, upload_id: str) -> str | None:
        """Return why an object goes of whose upload the stream has no event.

        The files of older uploads stay: their events may be gone by age, or be in the archive only.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        complete_since = await self._uploads.complete_since()
        if complete_since is None or time_of(upload_id) - _CLOCK_SKEW <= complete_since:
            return ""
        return "no upload has this id" if self._is_older(stored.modified_at, self._settings.orphan_hours) else None

    async def _upload_of(self, key: str, folder: str) -> tuple[str | None, Upload | None]:
        """Return the id of the upload to which a key belongs, if it does to one, and the upload, if there is one.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        tenant, _, rest = key.removeprefix(folder).partition("/")
        upload_id = rest.partition("/")[0]
        if not key.startswith(folder) or not is_id(upload_id, "upl"):
            return None, None
        return upload_id, await self._uploads.load(tenant, upload_id)

    async def _digest(self, key: str) -> str | None:
        try:
            return await sha256_of(self._bucket, key)
        except ObjectMissing:
            return None

    def _is_older(self, at: datetime, hours: float) -> bool:
        return self._clock() - at > timedelta(hours=hours)

    async def _remove(self, key: str, why: str, deletion: Callable[[], Awaitable[None]]) -> bool:
        """Delete something; return False if the bucket refuses that: the next sweep asks again.

        Raises:
            NotLeading: the lease is lost.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        self._require_leader()
        try:
            await deletion()
        except StorageRefused as error:
            log.warning("%s stays though %s: %s", key, why, error)
            return False
        self.removed += 1
        log.warning("removed %s from the bucket: %s", key, why)
        return True
