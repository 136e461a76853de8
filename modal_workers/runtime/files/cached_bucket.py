"""Bucket of a run, with retries and an optional file cache. Decides what is worth caching."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from contracts.limits import KIB, MIB
from kit.bucket import Bucket, Transfer
from modal_workers.runtime.files.file_cache import CacheEntry, FileCache
from modal_workers.runtime.retry import while_unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Minimum size of a cached file: a smaller one downloads as fast as its version is read.
MIN_CACHED_BYTES: Final = 64 * KIB
#: Timeout of the cache, plus the size over the slowest rate: after that the bucket is faster.
_CACHE_TIMEOUT_S: Final = 10.0
_SLOWEST_BYTES_PER_S: Final = 10 * MIB


class CachedBucket:
    """Bucket of one run."""

    def __init__(self, bucket: Bucket, cache: FileCache | None) -> None:
        """Use an open bucket; ``cache`` is optional."""
        self._bucket = bucket
        self._cache = cache
        #: Keys that this run has downloaded or uploaded already.
        self._seen: set[str] = set()

    async def fetch(self, key: str, path: Path) -> None:
        """Download the object's current version into a file.

        Raises:
            ObjectMissing: the bucket has no such object.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        if not await self._take_from_cache(key, path):
            fetched = await while_unavailable(lambda: self._bucket.fetch_file(key, path), key)
            await self._put_into_cache(fetched, path)

    async def send(self, path: Path, key: str, media_type: str, name: str) -> Transfer:
        """Upload a file that a later stage may download.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        sent = await while_unavailable(lambda: self._bucket.send_file(path, key, media_type), name)
        await self._put_into_cache(sent, path)
        return sent

    async def remove_stale(self, hours: float) -> None:
        """Remove from the cache the folders of other jobs that were unused for ``hours``."""
        if self._cache is not None and (removed := await asyncio.to_thread(self._cache.remove_stale, 3600.0 * hours)):
            log.info("removed the cached files of %d jobs", removed)

    async def _take_from_cache(self, key: str, path: Path) -> bool:
        if self._cache is None or (entry := await self._ask_cache(0, self._cache.find, key)) is None:
            return False
        if await while_unavailable(lambda: self._bucket.version(key), key) != (entry.etag, entry.bytes):
            return False
        # Copied under another name: a copy after the timeout must not overwrite what the job reads by then.
        partial = path.with_name(f".{path.name}.cached")
        if self._cache is None or not await self._ask_cache(entry.bytes, self._cache.take, entry, partial):
            return False
        partial.replace(path)
        log.info("took %s from the cache", key)
        self._seen.add(key)
        return True

    async def _put_into_cache(self, moved: Transfer, path: Path) -> None:
        if self._cache is None or moved.bytes < MIN_CACHED_BYTES or not _identifies(moved.etag):
            return
        if moved.key in self._seen:
            # Changed again by this run: a checkpoint that is replaced every minute is not worth caching.
            await self._ask_cache(0, self._cache.drop, moved.key)
            return
        self._seen.add(moved.key)
        entry = CacheEntry(key=moved.key, etag=moved.etag, bytes=moved.bytes, sha256=moved.sha256)
        await self._ask_cache(moved.bytes, self._cache.put, entry, path)

    async def _ask_cache(self, size_bytes: int, operation: Callable[..., T], *arguments: object) -> T | None:
        """Run a cache operation in a thread, because it may be on a network; stop using a cache that times out."""
        try:
            async with asyncio.timeout(_CACHE_TIMEOUT_S + size_bytes / _SLOWEST_BYTES_PER_S):
                return await asyncio.to_thread(operation, *arguments)
        except TimeoutError:
            log.warning("the cache timed out; this run continues without it")
            self._cache = None
            return None


def _identifies(etag: str) -> bool:
    """Return whether an entity tag identifies the bytes exactly: it is present and not weak."""
    return bool(etag) and not etag.startswith("W/")
