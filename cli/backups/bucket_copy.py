"""Copies of a bucket's objects to a folder and back, each with its size and hash."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

from cli.backups.backup_folder import OBJECT_FILES, OBJECT_LIST, BackupFolder, ObjectEntry
from cli.failure import Failure
from kit.bucket import Bucket, ObjectMissing, open_bucket
from kit.bucket_inventory import sha256_of
from kit.history.segment_store import FOLDER as ARCHIVE_FOLDER
from kit.settings import ArchiveSettings, S3Settings
from kit.tasks import map_concurrently

_AT_ONCE: Final = 8
_UNKNOWN_TYPE: Final = "application/octet-stream"


class Buckets:
    """The bucket of a system, and that of its archive, which may be another one (ARCHIVE_BUCKET)."""

    def __init__(self, bucket: Bucket, archive: Bucket) -> None:
        """Use the two; they may be the same object."""
        self._bucket = bucket
        self._archive = archive

    @property
    def all(self) -> tuple[Bucket, ...]:
        """The buckets, each once."""
        return (self._bucket,) if self._archive is self._bucket else (self._bucket, self._archive)

    def of(self, key: str) -> Bucket:
        """Return the bucket that an object is in, by its key without the prefix of the settings."""
        return self._archive if key.startswith(f"{ARCHIVE_FOLDER}/") else self._bucket

    async def keys(self) -> list[str]:
        """Return the keys of all objects, sorted, without the prefix of the settings.

        Segments in the bucket of a system that has another one for its archive are of an earlier setting: not read any
        more, and left out.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        found: list[str] = []
        for bucket in self.all:
            prefix = f"{root}/" if (root := bucket.key("")) else ""
            keys = (key.removeprefix(prefix) for key in await bucket.list_keys(prefix))
            found += (key for key in keys if self.of(key) is bucket)
        return sorted(found)


@contextlib.asynccontextmanager
async def open_buckets(settings: S3Settings) -> AsyncIterator[Buckets]:
    """Open the bucket and that of the archive."""
    archive_settings = ArchiveSettings().s3(settings)
    async with contextlib.AsyncExitStack() as stack:
        bucket = archive = await stack.enter_async_context(open_bucket(settings))
        if archive_settings is not None and archive_settings.bucket != settings.bucket:
            archive = await stack.enter_async_context(open_bucket(archive_settings))
        yield Buckets(bucket, archive)


async def save_objects(buckets: Buckets, folder: BackupFolder, *, copied: bool) -> tuple[list[ObjectEntry], Path]:
    """Copy the objects to the folder, or only list them; return them, and the file with the list.

    An object that is deleted meanwhile is left out; of those that the streams name, only retention deletes any.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """

    async def save(key: str) -> ObjectEntry | None:
        bucket = buckets.of(key)
        try:
            if not copied:
                etag, size = await bucket.version(bucket.key(key))
                return ObjectEntry(key=key, bytes=size, etag=etag)
            target = folder.file(f"{OBJECT_FILES}/{key}")
            target.parent.mkdir(parents=True, exist_ok=True)
            transfer = await bucket.fetch_file(bucket.key(key), target)
            return ObjectEntry(key=key, bytes=transfer.bytes, etag=transfer.etag, sha256=transfer.sha256)
        except ObjectMissing:
            return None

    found = [entry for entry in await map_concurrently(save, await buckets.keys(), _AT_ONCE) if entry]
    listed = folder.path / OBJECT_LIST
    listed.write_text("".join(f"{entry.model_dump_json()}\n" for entry in found))
    return found, listed


async def restore_objects(buckets: Buckets, folder: BackupFolder, entries: Iterable[ObjectEntry]) -> None:
    """Upload the objects of a backup.

    Raises:
        SaccadeError: STORAGE_UNAVAILABLE.
    """

    async def restore(entry: ObjectEntry) -> None:
        bucket = buckets.of(entry.key)
        media_type = mimetypes.guess_type(entry.key)[0] or _UNKNOWN_TYPE
        await bucket.send_file(folder.file(f"{OBJECT_FILES}/{entry.key}"), bucket.key(entry.key), media_type)

    await map_concurrently(restore, entries, _AT_ONCE)


async def check_objects(buckets: Buckets, entries: Iterable[ObjectEntry], *, read: bool) -> None:
    """Check that the buckets have the objects of a backup; with ``read``, by their bytes.

    Raises:
        Failure: the first that is missing or differs.
        SaccadeError: STORAGE_UNAVAILABLE.
    """

    async def check(entry: ObjectEntry) -> None:
        bucket = buckets.of(entry.key)
        try:
            _, size = await bucket.version(bucket.key(entry.key))
            whole = size == entry.bytes
            if whole and read and entry.sha256:
                whole = await sha256_of(bucket, bucket.key(entry.key)) == entry.sha256
        except ObjectMissing:
            whole = False
        if not whole:
            raise Failure(
                f"The bucket does not have {entry.key} as it was.",
                code="restore_differs",
                hint="Copy the objects of the time of the backup into the bucket first, or use a backup that has them.",
            )

    await map_concurrently(check, entries, _AT_ONCE)
