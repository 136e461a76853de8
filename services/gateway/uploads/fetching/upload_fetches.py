"""All files that are being fetched: stored before anything is done, fetched by one gateway, taken over by another.

The gateway that holds the lease fetches; it holds it only while there is something to fetch. What it leaves behind when
it dies is found in the records, and fetched from the beginning.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import UploadCompleted, UploadCreated, UploadSource
from contracts.streams import FETCHES
from contracts.upload import Upload, UploadState
from kit.bus.event_store import EventStore
from kit.bus.lease import Lease
from kit.tasks import end, first_of
from services.gateway.aggregates.tenant_use import TenantUse
from services.gateway.uploads.fetching.records import Records, UploadFetch
from services.gateway.uploads.fetching.upload_fetcher import UploadFetcher
from services.gateway.uploads.fetching.url_policy import UrlPolicy
from services.gateway.uploads.service import TEMPORARY_ERRORS, UploadService

log = logging.getLogger(__name__)

_LEASE: Final = "fetches"
_RETRY_S: Final = 3.0
#: Processes that may die over one file before it is given up: it could be the cause.
_MAX_STARTS: Final = 8


class UploadFetches:
    """Queue of the files to fetch, of all tenants."""

    def __init__(
        self, client: Client, uploads: UploadService, fetcher: UploadFetcher, policy: UrlPolicy, *, use: TenantUse
    ) -> None:
        """Fetch as ``policy`` allows, at most as many files at a time as its settings say."""
        self._use = use
        self._client, self._uploads, self._fetcher = client, uploads, fetcher
        self.policy, self._settings = policy, policy.settings
        self.store = EventStore(client, FETCHES.name)
        self._records = Records(self.store, "upload", UploadFetch)
        self.progress = fetcher.progress
        #: Tenants of the files to fetch, by upload, in the order of arrival.
        self._pending: dict[str, str] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        #: The part of each task that stops when its upload is ended by somebody else.
        self._downloads: dict[str, asyncio.Task[UploadCompleted]] = {}
        #: Uploads of running tasks that have failed by now.
        self._stopped: set[str] = set()
        #: Files of requests whose records are not stored yet, by tenant.
        self._reserved: Counter[str] = Counter()
        #: Those requests that are for a job.
        self._reserved_jobs: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._running = False

    @asynccontextmanager
    async def room(self, tenant: str, count: int, *, for_job: bool = False) -> AsyncIterator[None]:
        """Reserve room for ``count`` more files of a tenant until their records are stored.

        Raises:
            SaccadeError: RATE_LIMITED; QUOTA_EXCEEDED, of bytes or, ``for_job``, of unfinished jobs, among which are
                those that wait for files; BUS_UNAVAILABLE.
        """
        limit = self._settings.pending_per_tenant
        recorded = await self._records.of_tenant(tenant, limit)
        if len(recorded) + self._reserved[tenant] + count > limit:
            message = f"At most {limit} files are fetched or wait to be fetched for you."
            raise SaccadeError(ErrorCode.RATE_LIMITED, message, hint="Try again when some of them are complete.")
        if for_job:
            waiting = {record.job_id for record in recorded if record and record.job_id}
            self._use.require_job(tenant, len(waiting) + self._reserved_jobs[tenant])
        self._use.require_bytes(tenant)
        self._use.count_event(tenant, count)
        self._reserved[tenant] += count
        self._reserved_jobs[tenant] += for_job
        try:
            yield
        finally:
            for reserved, added in ((self._reserved, count), (self._reserved_jobs, int(for_job))):
                reserved[tenant] -= added
                if not reserved[tenant]:
                    del reserved[tenant]

    async def add(self, wanted: UploadFetch) -> Upload:
        """Store durably that a file is to be fetched, and return its upload; idempotent.

        Raises:
            SaccadeError: UPLOAD_NOT_FOUND, if it was deleted meanwhile; BUS_UNAVAILABLE.
        """
        if (upload := await self._uploads.find(wanted.tenant, wanted.id)) is None:
            await self._records.add(wanted)
            created = UploadCreated(
                key="",
                filename=wanted.filename,
                content_type=wanted.content_type,
                size_bytes=0,
                sha256=wanted.sha256,
                source=UploadSource(url=wanted.shown_url, job_id=wanted.job_id),
                metadata=wanted.metadata,
                from_job=wanted.from_job,
            )
            upload = await self._uploads.create_fetched(wanted.tenant, wanted.id, created)
        return upload

    def on_upload(self, upload: Upload) -> None:
        """Enqueue a file that is to be fetched, or stop fetching one that has ended; called with each upload event."""
        if upload.created.source is None:
            return
        if upload.state is UploadState.CREATED:
            self._pending.setdefault(upload.id, upload.tenant)
        elif not self._running:
            self._pending.pop(upload.id, None)
        elif upload.state is UploadState.FAILED and upload.id in self._tasks:
            # It was deleted, or has expired, or nobody needs it any more. Its task deletes the record.
            self._stopped.add(upload.id)
            if download := self._downloads.get(upload.id):
                download.cancel()
        self._changed.set()

    async def sweep(self) -> None:
        """Enqueue every recorded file, and delete the records of those that have ended; called periodically.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async for wanted, sequence in self._records.all():
            upload = await self._uploads.find(wanted.tenant, wanted.id)
            if upload is not None and upload.state is not UploadState.CREATED:
                if wanted.id not in self._tasks:
                    await self._records.delete(sequence)
            else:
                self._pending.setdefault(wanted.id, wanted.tenant)
                self._changed.set()

    async def run(self, view_ready: asyncio.Event) -> None:
        """Fetch until cancelled, once the view has caught up with the stream."""
        await view_ready.wait()
        self._running = True
        while True:
            try:
                await self.sweep()
                break
            except SaccadeError as error:
                log.warning("the files to fetch cannot be read: %s", error)
                await asyncio.sleep(_RETRY_S)
        while True:
            while not self._pending:
                self._changed.clear()
                await self._changed.wait()
            lease = Lease(self._client, _LEASE)
            await lease.acquire()
            try:
                await first_of(lease.keep(), self._fetch_pending())
            finally:
                await lease.release()

    async def _fetch_pending(self) -> None:
        """Fetch until nothing is left."""
        try:
            while self._pending:
                self._changed.clear()
                self._start_more()
                await self._changed.wait()
        finally:
            await end(*self._tasks.values())
            self._tasks.clear()

    def _start_more(self) -> None:
        running = Counter(self._pending.get(upload_id) for upload_id in self._tasks)
        for upload_id, tenant in list(self._pending.items()):
            if len(self._tasks) >= self._settings.at_once:
                return
            if upload_id not in self._tasks and running[tenant] < self._settings.at_once_per_tenant:
                running[tenant] += 1
                self._tasks[upload_id] = asyncio.ensure_future(self._fetch(tenant, upload_id))

    async def _fetch(self, tenant: str, upload_id: str) -> None:
        """Fetch one file to its end; after an error of bus or bucket it stays in the queue."""
        try:
            await self._fetch_recorded(tenant, upload_id)
            self._pending.pop(upload_id, None)
        except SaccadeError as error:
            log.warning("%s: fetch is repeated in %g s: %s", upload_id, _RETRY_S, error.code)
            await asyncio.sleep(_RETRY_S)
        except Exception:
            log.exception("%s: fetch failed", upload_id)
            await asyncio.sleep(_RETRY_S)
        finally:
            self._tasks.pop(upload_id, None)
            self._stopped.discard(upload_id)
            self._changed.set()

    async def _fetch_recorded(self, tenant: str, upload_id: str) -> None:
        """Fetch a file as its record says, and end its upload.

        Raises:
            SaccadeError: a temporary error of bus or bucket.
        """
        found = await self._records.load(tenant, upload_id)
        if found is None:
            return
        wanted, sequence = found
        upload = await self.add(wanted)
        if upload.state is UploadState.CREATED:
            sequence = await self._fetch_into(upload, wanted, sequence)
        await self._records.delete(sequence)

    async def _fetch_into(self, upload: Upload, wanted: UploadFetch, sequence: int) -> int:
        """Fetch a file, end its upload, and return the sequence of its record.

        Raises:
            SaccadeError: a temporary error of bus or bucket.
        """

        async def note(**changes: object) -> None:
            nonlocal wanted, sequence
            wanted = wanted.model_copy(update=changes)
            noted = await self._records.replace(wanted, after=sequence)
            if noted is None:
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Another gateway fetches this file.")
            sequence = noted

        try:
            if wanted.starts >= _MAX_STARTS:
                raise SaccadeError(ErrorCode.INTERNAL, f"The fetch was interrupted {wanted.starts} times.")
            await self._uploads.abort_parts(upload, wanted.multipart_id)
            await note(starts=wanted.starts + 1, multipart_id=None)
            download = asyncio.ensure_future(
                self._fetcher.fetch(wanted, upload, lambda started: note(multipart_id=started))
            )
            self._downloads[upload.id] = download
            if upload.id in self._stopped:
                download.cancel()
            try:
                completed = await download
            except asyncio.CancelledError:
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                return sequence
            finally:
                del self._downloads[upload.id]
        except SaccadeError as error:
            if error.code in TEMPORARY_ERRORS:
                await note(starts=wanted.starts - 1)
                raise
            await self._uploads.reject(upload, error)
        else:
            await self._uploads.store_completed(upload, completed)
        return sequence
