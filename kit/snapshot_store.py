"""Snapshots of a service in the bucket: ``snapshots/<service>/<epoch>/<sequence>.zst``, an object each.

None is ever written over: a process that dies while it writes one leaves those before it. They are in the bucket of the
archive, which nobody but the services can read: they hold parameters and file names of jobs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kit.bucket import ObjectMissing

if TYPE_CHECKING:
    from kit.bucket import Bucket

_FOLDER: Final = "snapshots"
_NAME: Final = re.compile(r"([A-Za-z0-9]{1,64})/([0-9]{18})\.zst")
_CONTENT_TYPE: Final = "application/zstd"


@dataclass(frozen=True, order=True)
class StoredSnapshot:
    """A snapshot as its key tells it."""

    sequence: int
    epoch: str
    key: str
    #: When it was stored, by the clock of the bucket; None of one that this process has just written.
    stored_at: datetime | None = field(default=None, compare=False)
    size_bytes: int = field(default=0, compare=False)


class SnapshotStore:
    """Snapshots that the processes of one service have in common."""

    def __init__(self, open_bucket: Callable[[], Awaitable[Bucket]], service: str) -> None:
        """Open the bucket at the first use; ``service`` names the folder."""
        self._open_bucket, self._service = open_bucket, service

    async def all(self) -> list[StoredSnapshot]:
        """Return all snapshots, of any epoch and version, those with the highest sequence first.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self._open_bucket()
        folder = f"{bucket.key(_FOLDER, self._service)}/"
        found: list[StoredSnapshot] = []
        async for entry in bucket.list_entries(folder):
            key = entry["Key"]
            if match := _NAME.fullmatch(key.removeprefix(folder)):
                size_bytes = int(entry.get("Size") or 0)
                found.append(StoredSnapshot(int(match[2]), match[1], key, entry.get("LastModified"), size_bytes))
        return sorted(found, reverse=True)

    async def read(self, snapshot: StoredSnapshot) -> bytes | None:
        """Return the bytes of a snapshot; None when it was deleted meanwhile.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self._open_bucket()
        with suppress(ObjectMissing):
            return await bucket.get(snapshot.key)
        return None

    async def write(self, epoch: str, sequence: int, data: bytes) -> StoredSnapshot:
        """Store a snapshot.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return await self._store(epoch, sequence, lambda bucket, key: bucket.put(key, data, _CONTENT_TYPE))

    async def send(self, epoch: str, sequence: int, path: Path) -> StoredSnapshot:
        """Store a snapshot that is a file; what was sent of it is not one until all was.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        return await self._store(epoch, sequence, lambda bucket, key: bucket.send_file(path, key, _CONTENT_TYPE))

    async def fetch(self, snapshot: StoredSnapshot, path: Path) -> bool:
        """Write a snapshot into a file; return False when it was deleted meanwhile.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self._open_bucket()
        with suppress(ObjectMissing):
            await bucket.fetch_file(snapshot.key, path)
            return True
        return False

    async def _store(
        self, epoch: str, sequence: int, put: Callable[[Bucket, str], Awaitable[object]]
    ) -> StoredSnapshot:
        bucket = await self._open_bucket()
        key = bucket.key(_FOLDER, self._service, epoch, f"{sequence:018d}.zst")
        await put(bucket, key)
        return StoredSnapshot(sequence, epoch, key)

    async def delete_all(self) -> None:
        """Delete all snapshots.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        for stored in await self.all():
            await self.delete(stored)

    async def delete(self, snapshot: StoredSnapshot) -> None:
        """Delete a snapshot.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self._open_bucket()
        await bucket.delete(snapshot.key)
