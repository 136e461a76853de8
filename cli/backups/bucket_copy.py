"""Copies of a bucket's objects to a folder and back, each with its size and hash."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from cli.backups.backup_folder import OBJECT_FILES, OBJECT_LIST, BackupFolder, ObjectEntry
from cli.failure import Failure
from kit.bucket import Bucket, ObjectMissing

_AT_ONCE: Final = 8
_UNKNOWN_TYPE: Final = "application/octet-stream"


async def save_objects(bucket: Bucket, folder: BackupFolder, *, copied: bool) -> tuple[list[ObjectEntry], Path]:
    """Copy the objects to the folder, or only list them; return them, and the file with the list.

    What is deleted meanwhile is left out: nothing that the streams name is, but by retention.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    root = bucket.key("")
    prefix = f"{root}/" if root else ""
    keys = sorted(key.removeprefix(prefix) for key in await bucket.list_keys(prefix))
    limit = asyncio.Semaphore(_AT_ONCE)

    async def save(key: str) -> ObjectEntry | None:
        async with limit:
            try:
                if not copied:
                    etag, size = await bucket.version(prefix + key)
                    return ObjectEntry(key=key, bytes=size, etag=etag)
                target = folder.file(f"{OBJECT_FILES}/{key}")
                target.parent.mkdir(parents=True, exist_ok=True)
                transfer = await bucket.fetch_file(prefix + key, target)
                return ObjectEntry(key=key, bytes=transfer.bytes, etag=transfer.etag, sha256=transfer.sha256)
            except ObjectMissing:
                return None

    found = [entry for entry in await asyncio.gather(*map(save, keys)) if entry]
    listed = folder.path / OBJECT_LIST
    listed.write_text("".join(f"{entry.model_dump_json()}\n" for entry in found))
    return found, listed


async def restore_objects(bucket: Bucket, folder: BackupFolder, entries: Iterable[ObjectEntry]) -> None:
    """Upload the objects of a backup.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def restore(entry: ObjectEntry) -> None:
        async with limit:
            media_type = mimetypes.guess_type(entry.key)[0] or _UNKNOWN_TYPE
            await bucket.send_file(folder.file(f"{OBJECT_FILES}/{entry.key}"), bucket.key(entry.key), media_type)

    await asyncio.gather(*map(restore, entries))


async def check_objects(bucket: Bucket, entries: Iterable[ObjectEntry], *, read: bool) -> None:
    """Check that the bucket has the objects of a backup; with ``read``, by their bytes.

    Raises:
        Failure: the first that is missing or differs.
        SaccadeError: STORAGE_UNAVAILABLE.
    """
    limit = asyncio.Semaphore(_AT_ONCE)

    async def check(entry: ObjectEntry) -> None:
        async with limit:
            try:
                _, size = await bucket.version(bucket.key(entry.key))
                whole = size == entry.bytes
                if whole and read and entry.sha256:
                    whole = await _sha256(bucket, bucket.key(entry.key)) == entry.sha256
            except ObjectMissing:
                whole = False
        if not whole:
            raise Failure(
                f"The bucket does not have {entry.key} as it was.",
                code="restore_differs",
                hint="Copy the objects of the time of the backup into the bucket first, or use a backup that has them.",
            )

    await asyncio.gather(*map(check, entries))


async def _sha256(bucket: Bucket, key: str) -> str:
    digest = hashlib.sha256()
    async for chunk in bucket.read(key):
        digest.update(chunk)
    return digest.hexdigest()
