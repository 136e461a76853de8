"""Disk that holds bucket and bus, where they are on this machine: whether there is room for more bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import DISK_RESERVE_BYTES, MIB


class Disk:
    """Disk of a folder; without a folder, bucket and bus are elsewhere and there is always room."""

    def __init__(self, folder: Path | None) -> None:
        """Use the disk of ``folder``."""
        self._folder = folder

    def free_bytes(self) -> int | None:
        """Return the free space; None if the disk is not on this machine."""
        return shutil.disk_usage(self._folder).free if self._folder else None

    def require_room(self, size_bytes: int = 0) -> None:
        """Check that a file fits without using the reserve.

        Raises:
            SaccadeError: STORAGE_FULL.
        """
        free = self.free_bytes()
        if free is None or free >= size_bytes + DISK_RESERVE_BYTES:
            return
        wanted = f", the file needs {_mb(size_bytes)}" if size_bytes else ""
        raise SaccadeError(
            ErrorCode.STORAGE_FULL,
            f"The disk of the server is full: {_mb(free)} are free{wanted}, {_mb(DISK_RESERVE_BYTES)} stay reserved.",
            hint="Free some space on the server's disk, then try again; what was accepted before continues by itself.",
        )

    def cause_of(self, error: SaccadeError) -> SaccadeError:
        """Return STORAGE_FULL for an error of bus or bucket while the disk is full; other errors unchanged."""
        if error.code not in (ErrorCode.BUS_UNAVAILABLE, ErrorCode.STORAGE_UNAVAILABLE):
            return error
        try:
            self.require_room()
        except SaccadeError as full:
            return full
        return error

    async def check(self) -> str:
        """Return the free space, for a health report.

        Raises:
            SaccadeError: STORAGE_FULL.
        """
        self.require_room()
        return f"{_mb(self.free_bytes() or 0)} are free"


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.0f} MB"
