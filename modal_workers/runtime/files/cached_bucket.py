"""Files to and from the bucket, patiently, past a cache where the worker has one. Decides what is worth caching."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from contracts.limits import KIB, MIB
from kit.bucket import Bucket, Transfer
from modal_workers.runtime.files.file_cache import FileCache, Note
from modal_workers.runtime.retry import patiently

log = logging.getLogger(__name__)
T = TypeVar("T")

#: A smaller file is fetched as fast as its version is asked for.
WORTH_BYTES: Final = 64 * KIB
#: A cache that takes longer than this has hung: the bucket is no slower.
_ANSWER_S: Final = 10.0
_SLOWEST_BYTES_PER_S: Final = 10 * MIB


class CachedBucket:
    """The bucket as one run uses it."""

    def __init__(self, bucket: Bucket, cache: FileCache | None) -> None:
        """Use an open bucket; without a cache everything is the bucket's."""
        self._bucket = bucket
        self._cache = cache
        #: Objects of which this run has had a version already.
        self._seen: set[str] = set()

    async def fetch(self, key: str, path: Path) -> None:
        """Bring the object's present version into a file.

        Raises:
            Missing: there is none.
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        if not await self._taken(key, path):
            fetched = await patiently(lambda: self._bucket.fetch_file(key, path), key)
            await self._put(fetched, path)

    async def send(self, path: Path, key: str, media_type: str, what: str) -> Transfer:
        """Upload a file that a later stage may want.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        sent = await patiently(lambda: self._bucket.send_file(path, key, media_type), what)
        await self._put(sent, path)
        return sent

    async def remove_stale(self, hours: float) -> None:
        """Remove from the cache what other jobs have left and nobody has touched for so long."""
        if self._cache is not None and (removed := await asyncio.to_thread(self._cache.remove_stale, 3600.0 * hours)):
            log.info("removed from the cache what %d jobs had left", removed)

    async def _taken(self, key: str, path: Path) -> bool:
        if self._cache is None or (note := await self._answer(0, self._cache.noted, key)) is None:
            return False
        if await patiently(lambda: self._bucket.version(key), key) != (note.etag, note.bytes):
            return False
        # A copy that comes too late must not write into what the job reads by then.
        beside = path.with_name(f".{path.name}.cached")
        if self._cache is None or not await self._answer(note.bytes, self._cache.take, note, beside):
            return False
        beside.replace(path)
        log.info("had %s from the cache", key)
        self._seen.add(key)
        return True

    async def _put(self, moved: Transfer, path: Path) -> None:
        if self._cache is None or moved.bytes < WORTH_BYTES or not _identifies(moved.etag):
            return
        if moved.key in self._seen:
            # It changes under this run's hands: a checkpoint, of which each minute brings another.
            await self._answer(0, self._cache.drop, moved.key)
            return
        self._seen.add(moved.key)
        note = Note(key=moved.key, etag=moved.etag, bytes=moved.bytes, sha256=moved.sha256)
        await self._answer(moved.bytes, self._cache.put, note, path)

    async def _answer(self, size_bytes: int, ask: Callable[..., T], *arguments: object) -> T | None:
        """Ask the cache, in a thread: it may be on a network. One that hangs is asked no more."""
        try:
            async with asyncio.timeout(_ANSWER_S + size_bytes / _SLOWEST_BYTES_PER_S):
                return await asyncio.to_thread(ask, *arguments)
        except TimeoutError:
            log.warning("the cache does not answer; this run goes on without it")
            self._cache = None
            return None


def _identifies(etag: str) -> bool:
    """Tell whether an entity tag stands for these bytes and no others: there is one, and it is not a weak one."""
    return bool(etag) and not etag.startswith("W/")
