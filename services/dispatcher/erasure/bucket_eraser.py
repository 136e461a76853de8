"""Deletes the objects of what is erased, and aborts its unfinished uploads."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from typing import Final

from kit.bucket import Bucket, ObjectMissing
from kit.tasks import map_concurrently
from services.dispatcher.erasure.progress import StoreContents

_PARALLEL: Final = 16


class BucketEraser:
    """Finds and deletes the objects of one erasure by folder.

    A server may list an object for some seconds after it was deleted.
    """

    def __init__(self, bucket: Bucket, *, lists_deleted: bool = False) -> None:
        """``lists_deleted``: look up each listed key, because the bucket may still list deleted objects."""
        self._bucket, self._lists_deleted = bucket, lists_deleted
        self._deleted: set[str] = set()

    async def count(self, folders: Iterable[tuple[str, ...]]) -> int:
        """Return how many objects are in folders.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return len(await self._existing(await self._keys(folders)))

    async def _existing(self, keys: Iterable[str]) -> set[str]:
        """Return the keys of which there is an object.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        found = set[str]()

        async def look_at(key: str) -> None:
            with contextlib.suppress(ObjectMissing):
                await self._bucket.size(key)
                found.add(key)

        await map_concurrently(look_at, keys, _PARALLEL)
        return found

    async def _keys(self, folders: Iterable[tuple[str, ...]]) -> list[str]:
        """Return the keys in folders.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """

        async def keys_of(folder: tuple[str, ...]) -> list[str]:
            return await self._bucket.list_keys(f"{self._bucket.key(*folder)}/")

        return [key for found in await map_concurrently(keys_of, folders, _PARALLEL) for key in found]

    async def found(self, folders: Iterable[tuple[str, ...]]) -> StoreContents:
        """Return what is in folders, to be deleted; what was deleted before is not counted again.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        keys = await self._keys(folders)
        new: Collection[str] = set(keys) - self._deleted
        if self._lists_deleted:
            new = await self._existing(new)

        async def delete() -> None:
            await map_concurrently(self._bucket.delete, keys, _PARALLEL)
            self._deleted.update(keys)

        return StoreContents(len(new), delete)

    async def abort(self, multiparts: dict[str, str]) -> None:
        """Delete the parts of uploads that were not completed, by key and id.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        for key, multipart_id in multiparts.items():
            await self._bucket.abort_multipart(key, multipart_id)
