"""Fetches one file into the bucket: guarded download, streamed upload, check by the decoder."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.upload import UploadCompleted
from contracts.limits import MIB
from contracts.upload import Upload
from kit.bucket import Bucket, Transfer
from kit.network.download import Download, Downloader, DownloadError
from services.gateway.aggregates.tenant_use import ArrivingFile, TenantUse
from services.gateway.uploads.disk import Disk
from services.gateway.uploads.fetching.fetched_file import check_beginning, check_expected, content_type_of
from services.gateway.uploads.fetching.records import UploadFetch
from services.gateway.uploads.fetching.url_policy import UrlPolicy
from services.gateway.uploads.service import UploadService

log = logging.getLogger(__name__)

#: Pauses before further attempts after an error that may be over by then.
_RETRY_PAUSES_S: Final = (1.0, 5.0)
#: Received bytes after which the disk is checked again.
_DISK_CHECK_BYTES: Final = 16 * MIB
_PROGRESS_KEPT: Final = 1000


@dataclass
class FetchProgress:
    """Bytes of a file that have arrived, of those that its server announced."""

    received_bytes: int = 0
    total_bytes: int | None = None


class UploadFetcher:
    """Fetches files; the caller limits how many at a time."""

    def __init__(
        self,
        policy: UrlPolicy,
        downloader: Downloader,
        bucket: Bucket,
        uploads: UploadService,
        disk: Disk,
        *,
        use: TenantUse,
    ) -> None:
        """``downloader`` connects as ``policy`` allows; ``disk`` is the bucket's."""
        self._use = use
        self._policy, self._downloader = policy, downloader
        self._bucket, self._uploads, self._disk = bucket, uploads, disk
        self._progress: OrderedDict[str, FetchProgress] = OrderedDict()

    def progress(self, upload_id: str) -> FetchProgress | None:
        """Return the progress of a file that this process fetches, or has fetched lately."""
        return self._progress.get(upload_id)

    async def fetch(
        self, wanted: UploadFetch, upload: Upload, on_multipart: Callable[[str], Awaitable[None]]
    ) -> UploadCompleted:
        """Fetch and check a file; its bytes are in the bucket, also if the check rejects it.

        ``on_multipart`` gets the id of a multipart upload before its first part is sent.

        Raises:
            SaccadeError: why the file cannot be used; STORAGE_UNAVAILABLE, which does not depend on it.
        """
        self._policy.check_enabled()
        for pause_s in (*_RETRY_PAUSES_S, None):
            try:
                transfer, declared = await self._transfer(wanted, upload, on_multipart)
                break
            except DownloadError as error:
                if not error.transient or pause_s is None:
                    raise
                log.info("fetch is repeated", extra={"upload_id": upload.id, "code": error.code})
                await asyncio.sleep(pause_s)
        if transfer.bytes == 0:
            raise SaccadeError(ErrorCode.UPLOAD_EMPTY, hint="Check that the URL leads to the whole file.")
        if wanted.sha256 and transfer.sha256 != wanted.sha256:
            message = f"The file has SHA-256 {transfer.sha256}, {wanted.sha256} was declared."
            raise SaccadeError(ErrorCode.UPLOAD_CHECKSUM_MISMATCH, message, hint="The file behind the URL has changed.")
        media = await self._uploads.probe(upload)
        check_expected(media, wanted.media, wanted.filename)
        content_type = content_type_of(media, declared, wanted.content_type)
        return UploadCompleted(
            size_bytes=transfer.bytes, sha256=transfer.sha256, media=media, content_type=content_type
        )

    async def _transfer(
        self, wanted: UploadFetch, upload: Upload, on_multipart: Callable[[str], Awaitable[None]]
    ) -> tuple[Transfer, str]:
        """Download into the bucket; return what was stored, and the content type that the server declared."""
        async with self._downloader.opened(wanted.url) as download:
            head = download.head
            check_beginning(head.content_type, b"")
            self._disk.require_room(head.size_bytes or 0)
            with self._use.arriving(upload.tenant) as file:
                file.grow_to(head.size_bytes or 0)
                chunks = self._checked(upload.id, download, file)
                transfer = await self._bucket.send_chunks(
                    chunks, upload.created.key, head.content_type or wanted.content_type, on_multipart
                )
        return transfer, head.content_type

    async def _checked(self, upload_id: str, download: Download, file: ArrivingFile) -> AsyncIterator[bytes]:
        progress = self._progress[upload_id] = FetchProgress(0, download.head.size_bytes)
        if len(self._progress) > _PROGRESS_KEPT:
            self._progress.popitem(last=False)
        next_check_bytes = _DISK_CHECK_BYTES
        async for chunk in download.chunks():
            if progress.received_bytes == 0:
                check_beginning("", chunk)
            progress.received_bytes += len(chunk)
            if progress.received_bytes >= next_check_bytes:
                next_check_bytes += _DISK_CHECK_BYTES
                self._disk.require_room()
                file.grow_to(progress.received_bytes)
            yield chunk
        file.grow_to(progress.received_bytes)
