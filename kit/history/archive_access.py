"""Access to the archive: opens its bucket when it is first needed, because the client takes a second to load."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from contracts.errors import ErrorCode, SaccadeError
from kit.history.archive_reader import ArchiveReader
from kit.history.segment_store import SegmentStore
from kit.settings import ArchiveSettings, S3Settings

if TYPE_CHECKING:
    from kit.bucket import Bucket


@asynccontextmanager
async def open_archive(s3: S3Settings | None, settings: ArchiveSettings) -> AsyncIterator[ArchiveReader | None]:
    """Open the archive of the stream EVENTS for reading; None where there is none."""
    found = settings.s3(s3) if s3 is not None else None
    if found is None:
        yield None
        return
    opened = _OnDemand(found)
    try:
        yield ArchiveReader(SegmentStore(opened.bucket))
    finally:
        await opened.close()


class _OnDemand:
    """A bucket that is opened once, when it is first needed."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._closed = False
        self._opening = asyncio.Lock()
        self._bucket: Bucket | None = None

    async def bucket(self) -> Bucket:
        """Return the bucket.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE, after the end.
        """
        async with self._opening:
            if self._closed:  # a late reader: nobody would close what is opened for it
                raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE, "The archive is closed.")
            if self._bucket is None:
                # In a thread: it would delay the live events of a notifier by half a second.
                module = await asyncio.to_thread(importlib.import_module, "kit.bucket")
                self._bucket = await self._stack.enter_async_context(module.open_bucket(self._settings))
            assert self._bucket
            return self._bucket

    async def close(self) -> None:
        """Close the bucket, once an opening under way has ended; no other follows."""
        async with self._opening:
            self._closed = True
            await self._stack.aclose()
