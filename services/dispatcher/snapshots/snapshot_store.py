"""Snapshots in the bucket: ``snapshots/dispatcher/<epoch>/<sequence>.zst``, an object each.

None is ever written over: a process that dies while it writes one leaves those before it. They are in the bucket of the
archive, which nobody but the services can read: they hold parameters and file names of unfinished jobs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kit.bucket import ObjectMissing

if TYPE_CHECKING:
    from kit.bucket import Bucket

_FOLDER: Final = ("snapshots", "dispatcher")
_NAME: Final = re.compile(r"([A-Za-z0-9]{1,64})/([0-9]{18})\.zst")
_CONTENT_TYPE: Final = "application/zstd"


@dataclass(frozen=True, order=True)
class StoredSnapshot:
    """A snapshot as its key tells it."""

    sequence: int
    epoch: str
    key: str


class SnapshotStore:
    """Snapshots of one dispatcher and its standbys."""

    def __init__(self, open_bucket: Callable[[], Awaitable[Bucket]]) -> None:
        """Open the bucket at the first use."""
        self._open_bucket = open_bucket

    async def all(self) -> list[StoredSnapshot]:
        """Return all snapshots, of any epoch and version, those with the highest sequence first.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self._open_bucket()
        folder = f"{bucket.key(*_FOLDER)}/"
        keys = await bucket.list_keys(folder)
        named = ((_NAME.fullmatch(key.removeprefix(folder)), key) for key in keys)
        return sorted((StoredSnapshot(int(match[2]), match[1], key) for match, key in named if match), reverse=True)

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
        bucket = await self._open_bucket()
        key = bucket.key(*_FOLDER, epoch, f"{sequence:018d}.zst")
        await bucket.put(key, data, _CONTENT_TYPE)
        return StoredSnapshot(sequence, epoch, key)

    async def delete(self, snapshot: StoredSnapshot) -> None:
        """Delete a snapshot.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        bucket = await self._open_bucket()
        await bucket.delete(snapshot.key)
