"""Deletes the objects of what is erased, and aborts its unfinished uploads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Final

from kit.bucket import Bucket, ObjectMissing
from kit.tasks import map_concurrently

_PARALLEL: Final = 16


class BucketEraser:
    """Finds and deletes the objects of one erasure by folder.

    A server may list an object for some seconds after it was deleted.
    """

    def __init__(self, bucket: Bucket) -> None:
        """Delete from ``bucket``."""
        self._bucket = bucket
        self._deleted: set[str] = set()

    async def count(self, folders: Iterable[tuple[str, ...]]) -> int:
        """Return how many objects are in folders.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        count = 0
        for key in await self._keys(folders):
            with contextlib.suppress(ObjectMissing):
                await self._bucket.size(key)
                count += 1
        return count

    async def _keys(self, folders: Iterable[tuple[str, ...]]) -> list[str]:
        """Return the keys in folders.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """

        async def keys_of(folder: tuple[str, ...]) -> list[str]:
            return await self._bucket.list_keys(f"{self._bucket.key(*folder)}/")

        return [key for found in await map_concurrently(keys_of, folders, _PARALLEL) for key in found]

    async def erase(self, folders: Iterable[tuple[str, ...]]) -> int:
        """Delete the objects in folders; return how many there were.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        keys = await self._keys(folders)
        await map_concurrently(self._bucket.delete, keys, _PARALLEL)
        new = set(keys) - self._deleted
        self._deleted |= new
        return len(new)

    async def abort(self, multiparts: dict[str, str]) -> None:
        """Delete the parts of uploads that were not completed, by key and id.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        for key, multipart_id in multiparts.items():
            await self._bucket.abort_multipart(key, multipart_id)
